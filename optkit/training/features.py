"""What a module computes on its way: the outputs of its layers, and where its attention looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Layer = TypeVar("Layer")
_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
"""What torch's attention takes, in its order."""


class Features:
    """Noted while ``watching``: the outputs of the modules named ``layers``, and attention in the order it came.

    ``attention`` holds log-probabilities ``[batch, heads, queries, keys]``.
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
                with attending(lambda asked: self.attention.append(_scores(asked))):
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
def attending(note: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Call ``note`` at each scaled dot-product attention of torch with its arguments by torch's names; tensors are
    ``[batch, heads, positions, width]``. ``nn.MultiheadAttention`` does not show its own.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class AttentionMode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is torch.nn.functional.scaled_dot_product_attention:
                note(dict(zip(_ARGUMENTS, args, strict=False)) | kwargs)
            return func(*args, **kwargs)

    with AttentionMode():
        yield


def _scores(asked: Mapping[str, Any]) -> Any:
    import torch

    query, key, mask = asked["query"], asked["key"], asked.get("attn_mask")
    scores = query @ key.transpose(-1, -2) * (asked.get("scale") or query.shape[-1] ** -0.5)
    hidden = torch.finfo(scores.dtype).min
    if asked.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, hidden) if mask.dtype == torch.bool else scores + mask
    return scores.clamp(min=hidden).log_softmax(-1)


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


def pairs(student: Sequence[Layer], teacher: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """Each layer of the student with that of the teacher after the same share of all: TinyBERT's uniform mapping
    (Jiao et al., 2020)."""
    return [
        (name, teacher[round((number + 1) * len(teacher) / len(student)) - 1]) for number, name in enumerate(student)
    ]
