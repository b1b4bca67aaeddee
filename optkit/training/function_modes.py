"""Modes of PyTorch that note calls of torch's functions.

It imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
"""Parameters of torch's scaled dot-product attention, in their order."""
_METADATA = ("__get__", "size", "dim", "detach")
"""Functions that read no values, or not for the model's computation."""


class AttentionCalls(TorchFunctionMode):  # type: ignore[misc]
    """Calls ``note`` with the arguments of each scaled dot-product attention, by torch's names."""

    def __init__(self, note: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            self._note(dict(zip(_ARGUMENTS, args, strict=False)) | kwargs)
        return func(*args, **kwargs)


class Consumers(TorchFunctionMode):  # type: ignore[misc]
    """Notes the names of the functions that read each tensor, without the underscore of those in place."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, set[str]] = {}
        self._kept: list[Any] = []  # a tensor that is freed would give its id to another
        self._changed: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = getattr(func, "__name__", "").rstrip("_")
        if name in _METADATA:
            return output
        self._kept.append((args, kwargs, output))
        for each in (*args, *kwargs.values()):
            for value in each if isinstance(each, list | tuple) else (each,):
                if id(value) not in self._changed:
                    self._names.setdefault(id(value), set()).add(name)
        if args and output is args[0]:
            self._changed.add(id(output))  # in place: later functions read another value
        return output

    def are(self, value: Any, names: Collection[str]) -> bool:
        """Tell whether a tensor is read, and only by functions of these names."""
        found = self._names.get(id(value), set())
        return bool(found) and found <= set(names)
