"""An engine's file: whose it is, as its first bytes say. It is not loaded, which needs the GPU that it is for."""

from __future__ import annotations

from dataclasses import dataclass

_RTX, _PLANS = b"vtrt", (b"ptrt", b"ftrt")
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""The compute capabilities that TensorRT-RTX builds for, in the order of their bits in a file."""
HEADER_BYTES = 64


@dataclass(frozen=True)
class Header:
    """``size`` in bytes, ``version`` and ``capabilities`` are known of engines of TensorRT-RTX, and of no other."""

    size: int | None = None
    version: str | None = None
    capabilities: tuple[str, ...] = ()


def header(head: bytes) -> Header | None:
    """What the first bytes of a file tell; ``None`` where it is no engine.

    The places are those of TensorRT-RTX 1.7: the whole file's size, four bytes of version, and a bit for each compute
    capability.
    """
    if head.startswith(_PLANS):
        return Header()
    if not head.startswith(_RTX) or len(head) < HEADER_BYTES:
        return None
    bits = int.from_bytes(head[32:36], "little")
    capabilities = tuple(name for place, name in enumerate(CAPABILITIES) if bits >> place & 1)
    return Header(int.from_bytes(head[16:24], "little"), ".".join(map(str, head[24:28])), capabilities)
