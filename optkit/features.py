"""What a module computes on its way: the outputs of its layers, and where its attention looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Features:
    """Noted while ``watching``: the outputs of the modules named ``layers``, and attention in the order it came.

    ``attention`` holds log-probabilities ``[batch, heads, queries, keys]``, ``heads`` the number of heads of each.
    """

    def __init__(self, module: Any, layers: Sequence[str], *, attention: bool = False) -> None:
        self._module = module
        self._layers = tuple(layers)
        self._wants_attention = attention
        self.hidden: dict[str, Any] = {}
        self.attention: list[Any] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is computed inside, in place of what was noted before."""
        self.hidden, self.attention = {}, []
        hooks = [self._module.get_submodule(name).register_forward_hook(self._note(name)) for name in self._layers]
        try:
            if self._wants_attention:
                with attending(lambda query, key, mask: self.attention.append(_scores(query, key, mask))):
                    yield
            else:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, name: str) -> Callable[[Any, Any, Any], None]:
        def note(module: Any, inputs: Any, output: Any) -> None:
            self.hidden[name] = output[0] if isinstance(output, tuple) else output

        return note


@contextmanager
def attending(note: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Call ``note(query, key, mask)`` at each scaled dot-product attention of torch; tensors are ``[batch, heads,
    positions, width]``, the mask is as torch takes it or ``None``. ``nn.MultiheadAttention`` does not show its own.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is torch.nn.functional.scaled_dot_product_attention:
                given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
                note(given["query"], given["key"], given.get("attn_mask"))
            return func(*args, **kwargs)

    with Mode():
        yield


def _scores(query: Any, key: Any, mask: Any) -> Any:
    import torch

    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        hidden = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~mask, hidden) if mask.dtype == torch.bool else scores + mask
    return scores.log_softmax(-1)


def matching(
    student: Any,
    teacher: Any,
    candidates: Sequence[tuple[str, str]],
    run: Callable[[Any], object],
) -> list[tuple[str, str]]:
    """Those pairs of layers (the student's, the teacher's) that have outputs of one shape when both are ``run``."""
    own = Features(student, [pair[0] for pair in candidates])
    taught = Features(teacher, [pair[1] for pair in candidates])
    for module, seen in ((student, own), (teacher, taught)):
        with seen.watching():
            run(module)
    return [pair for pair in candidates if own.hidden[pair[0]].shape == taught.hidden[pair[1]].shape]


def pairs(student: Sequence[str], teacher: Sequence[str]) -> list[tuple[str, str]]:
    """Each layer of the student with that of the teacher after the same share of all: TinyBERT's uniform mapping
    (Jiao et al., 2020)."""
    return [
        (name, teacher[round((number + 1) * len(teacher) / len(student)) - 1]) for number, name in enumerate(student)
    ]
