"""``doctor``: the machine and its libraries, and what stands in the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from optkit.options.calling import takes
from optkit.options.verbs.doctor import DoctorCommand
from optkit.progress import Progress
from optkit.records.machine import Doctor
from optkit.system import fingerprint
from optkit.targets.diagnosis import RUNTIMES, of_cpu, of_gpus, of_libraries, tried, tried_providers


@takes(DoctorCommand)
def doctor(options: DoctorCommand, progress: Progress) -> Doctor:
    """Describe the machine, and each target as it really imports: a broken install is a line with the reason."""
    here = fingerprint.fingerprint()
    with ThreadPoolExecutor(max(1, int(here.cores_allowed))) as pool:
        asked = pool.submit(tried_providers)
        targets = list(pool.map(tried, RUNTIMES))
        providers, notes = asked.result()
    notes = [*of_libraries(here, targets), *notes, *of_cpu(here, targets), *of_gpus(here, targets)]
    return Doctor(machine=here, targets=targets, providers=providers, notes=notes)
