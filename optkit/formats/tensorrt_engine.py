"""The header of a TensorRT engine file. The engine itself is not loaded: that needs the GPU that it was built for."""

from __future__ import annotations

from dataclasses import dataclass

_RTX, _PLANS = b"vtrt", (b"ptrt", b"ftrt")
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX builds for, in the order of their bits in the header."""
HEADER_BYTES = 64


@dataclass(frozen=True)
class Header:
    """The header of an engine; fields are set for engines of TensorRT-RTX only."""

    size: int | None = None
    """Bytes of the whole file."""
    version: str | None = None
    """Version of TensorRT-RTX, four numbers joined by dots."""
    capabilities: tuple[str, ...] = ()
    """Compute capabilities that the engine was built for."""


def header(head: bytes) -> Header | None:
    """Parse the first bytes of a file (``HEADER_BYTES`` or more); ``None`` if it is no TensorRT engine.

    Offsets are those of TensorRT-RTX 1.7: size of the file at 16, four version bytes at 24, one bit for each compute
    capability at 32.
    """
    if head.startswith(_PLANS):
        return Header()
    if not head.startswith(_RTX) or len(head) < HEADER_BYTES:
        return None
    bits = int.from_bytes(head[32:36], "little")
    capabilities = tuple(name for place, name in enumerate(CAPABILITIES) if bits >> place & 1)
    return Header(int.from_bytes(head[16:24], "little"), ".".join(map(str, head[24:28])), capabilities)
