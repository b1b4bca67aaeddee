"""The libraries of all targets, for the fingerprint of a machine and the key of the store."""

from __future__ import annotations

from optkit.lazy import Library
from optkit.records.machine import Machine
from optkit.system import fingerprint as fingerprints
from optkit.targets.table import TARGETS
from optkit.targets.target import target


def of_targets() -> list[Library]:
    """Return the distributions that the results of any target depend on, each once."""
    return list(dict.fromkeys(library for name in TARGETS for library in target(name).libraries))


def fingerprint() -> Machine:
    """This machine as a record, the libraries of all targets included; no runtime is imported."""
    return fingerprints.fingerprint(libraries=of_targets())


def versions() -> dict[str, str]:
    """Return the installed versions, by distribution, that the results of stages depend on."""
    found = [*of_targets(), *fingerprints.LIBRARIES]
    return {each.name: version for each in found if each.writes and (version := fingerprints.version(each.name))}
