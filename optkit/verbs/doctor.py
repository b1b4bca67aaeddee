"""``doctor``: the machine, the targets on it, and advice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from optkit.options.calling import takes
from optkit.options.verbs.doctor import DoctorCommand
from optkit.progress import Progress
from optkit.records.machine import Doctor
from optkit.targets import libraries
from optkit.targets.diagnosis import of_cpu, of_libraries, tried, tried_parts
from optkit.targets.target import offered


@takes(DoctorCommand)
def doctor(options: DoctorCommand, progress: Progress) -> Doctor:
    """Describe the machine, and each target as it really imports: a broken install is a line with the reason."""
    here = libraries.fingerprint()
    runtimes = [found for found in offered() if found.modules]
    with ThreadPoolExecutor(max(1, int(here.cores_allowed))) as pool:
        asked = pool.map(tried_parts, runtimes)
        targets = list(pool.map(tried, runtimes))
        providers, told = zip(*asked, strict=True)
    advice = [note for each, found in zip(runtimes, targets, strict=True) for note in each.advice(here, found)]
    return Doctor(
        machine=here,
        targets=targets,
        providers=[each for found in providers for each in found],
        notes=[*of_libraries(here, targets), *(note for notes in told for note in notes), *of_cpu(here), *advice],
    )
