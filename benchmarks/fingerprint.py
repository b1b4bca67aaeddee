"""The machine in a line, for the head of a table."""

from optkit.system import fingerprint as fingerprints

_LIBRARIES = ("onnxruntime", "openvino", "torch")


def fingerprint() -> str:
    here = fingerprints.fingerprint()
    versions = [f"{each.name} {each.version}" for each in here.libraries if each.name in _LIBRARIES]
    return (
        f"{here.cpu}, {here.cores_allowed:g} cores, {', '.join(here.isa)}; Python {here.python}, {', '.join(versions)}"
    )
