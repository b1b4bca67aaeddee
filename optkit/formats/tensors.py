"""Tensors and signatures: the inputs and outputs of a model.

A dimension is an ``int`` if it is fixed and a ``str`` (its name) if it is dynamic; the same name stands for the same
size in all inputs. ``--input NAME:DTYPE[DIM,DIM]`` describes one tensor: ``x:float32[batch,3,224,224]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from optkit.errors import SignatureError, UsageError
from optkit.lazy import did_you_mean

Array = np.ndarray
Arrays = dict[str, Array]
"""Named arrays: one feed into a model, or one set of outputs."""
Dim = int | str

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "string",
)  # fmt: skip

_INPUT = re.compile(r"^(?P<name>[^\[\]]+?):(?P<dtype>\w+)\[(?P<dims>[^\[\]]*)\]$")


@dataclass(frozen=True)
class TensorSpec:
    """The name, dtype and shape of one tensor."""

    name: str
    dtype: str
    """One of ``DTYPES``."""
    shape: tuple[Dim, ...] | None
    """``None`` if the rank is unknown."""

    def __str__(self) -> str:
        dims = "..." if self.shape is None else ",".join(str(dim) for dim in self.shape)
        return f"{self.name}:{self.dtype}[{dims}]"


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()

    @property
    def batch_dim(self) -> str | None:
        """The name of the dynamic first dimension that all inputs share, if there is one."""
        firsts = {spec.shape[0] if spec.shape else None for spec in self.inputs}
        only = firsts.pop() if len(firsts) == 1 else None
        return only if isinstance(only, str) else None

    @property
    def fixed_batch(self) -> int | None:
        """The fixed first dimension that all inputs share, if there is one."""
        firsts = {spec.shape[0] if spec.shape else None for spec in self.inputs}
        only = firsts.pop() if len(firsts) == 1 else None
        return only if isinstance(only, int) else None

    @property
    def static(self) -> bool:
        """True if no input has a dynamic dimension."""
        return all(
            spec.shape is not None and not any(isinstance(dim, str) for dim in spec.shape) for spec in self.inputs
        )


def parse_input(text: str) -> TensorSpec:
    """Parse one tensor, such as ``x:float32[batch,3,224,224]``. Raises UsageError."""
    match = _INPUT.match(text.replace(" ", ""))
    if match is None:
        raise UsageError(
            f"--input {text!r} is not NAME:DTYPE[DIM,DIM]",
            hint="for example --input 'x:float32[batch,3,224,224]'",
        )
    if match["dtype"] not in DTYPES:
        raise UsageError(
            f"--input {text!r}: unknown dtype {match['dtype']!r}",
            hint=did_you_mean(match["dtype"], list(DTYPES)),
        )
    dims = tuple(_parse_dim(dim, text) for dim in match["dims"].split(",") if match["dims"])
    return TensorSpec(match["name"], match["dtype"], dims)


def parse_inputs(texts: Iterable[str]) -> tuple[TensorSpec, ...]:
    """Parse several ``--input`` options. Raises UsageError, also for a name given twice."""
    specs = tuple(parse_input(text) for text in texts)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--input names {name!r} more than once")
    return specs


def _parse_dim(text: str, whole: str) -> Dim:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if text.isidentifier():
        return text
    raise UsageError(
        f"--input {whole!r}: dimension {text!r} is neither a positive size nor a name",
        hint="a word is a dynamic dimension: x:float32[batch,3,224,224]",
    )


def check_feed(feed: Mapping[str, Array], inputs: Iterable[TensorSpec], *, where: str) -> None:
    """Raise a SignatureError unless ``feed`` has exactly the model's inputs, of equal dtype, rank and sizes.

    ``where`` names the feed in the message (a file, a sample).
    """
    specs = tuple(inputs)
    names = [spec.name for spec in specs]
    for name in feed:
        if name not in names:
            raise SignatureError(f"{where}: the model has no input {name!r}", hint=did_you_mean(name, names))
    sizes: dict[str, int] = {}
    for spec in specs:
        if spec.name not in feed:
            raise SignatureError(
                f"{where}: input {spec.name!r} is missing",
                hint=f"the model takes {', '.join(map(str, specs))}",
            )
        _check_array(feed[spec.name], spec, sizes, where)


def _check_array(array: Array, spec: TensorSpec, sizes: dict[str, int], where: str) -> None:
    wanted = f"the model takes {spec}"
    if spec.dtype not in ("bfloat16", "string") and array.dtype != np.dtype(spec.dtype):
        raise SignatureError(
            f"{where}: input {spec.name!r} has dtype {array.dtype}, not {spec.dtype}",
            hint=f"convert it: array.astype('{spec.dtype}'); {wanted}",
        )
    if spec.shape is None:
        return
    if array.ndim != len(spec.shape):
        raise SignatureError(
            f"{where}: input {spec.name!r} has rank {array.ndim} (shape {list(array.shape)}), not {len(spec.shape)}",
            hint=wanted,
        )
    for axis, (size, dim) in enumerate(zip(array.shape, spec.shape, strict=True)):
        expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        if size != expected:
            raise SignatureError(
                f"{where}: input {spec.name!r} has size {size} at axis {axis}, not {expected}", hint=wanted
            )


def synthetic_feed(inputs: Iterable[TensorSpec], *, batch: int = 1, size: int = 64, seed: int = 0) -> Arrays:
    """Make a synthetic feed, for timing only: normally distributed floats, random zeros and ones for integers.

    A dynamic dimension has the size ``batch`` if it is the first axis where it first occurs, else ``size``. Raises
    SignatureError for an input of unknown rank.
    """
    generator = np.random.default_rng(seed)
    feed: Arrays = {}
    sizes: dict[str, int] = {}
    for spec in inputs:
        if spec.shape is None:
            raise SignatureError(f"input {spec.name!r} has no known rank, so none can be made up", hint="give --data")
        shape = [
            dim if isinstance(dim, int) else sizes.setdefault(dim, batch if axis == 0 else size)
            for axis, dim in enumerate(spec.shape)
        ]
        if spec.dtype.startswith(("float", "bfloat")):
            feed[spec.name] = generator.standard_normal(shape).astype(
                "float32" if spec.dtype == "bfloat16" else spec.dtype
            )
        elif spec.dtype == "string":
            feed[spec.name] = np.full(shape, "text", dtype=object)
        else:
            feed[spec.name] = generator.integers(0, 2, size=shape).astype(spec.dtype)
    return feed
