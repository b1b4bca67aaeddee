"""Intermediate results of a module: outputs of layers (hidden states), and attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Layer = TypeVar("Layer")


class Features:
    """Intermediate results of one call: outputs of ``layers``, the names of submodules, and attention in its order.

    ``hidden`` holds a layer's output by its name, ``attention`` log-probabilities ``[batch, heads, queries, keys]``.
    """

    def __init__(self, module: Any, layers: Sequence[str], *, attention: bool = False) -> None:
        self._module = module
        self._layers = tuple(layers)
        self._wants_attention = attention
        self.hidden: dict[str, Any] = {}
        self.attention: list[Any] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the intermediate results of calls inside, in place of those noted before."""
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
    """Call ``note`` with the arguments of each scaled dot-product attention of torch, by torch's names.

    Tensors are ``[batch, heads, positions, width]``. ``nn.MultiheadAttention`` does not call it.
    """
    from optkit.training.function_modes import AttentionCalls

    with AttentionCalls(note):
        yield


def _scores(asked: Mapping[str, Any]) -> Any:
    """Return the logarithms of the attention's weights, computed from its arguments."""
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
    """Return pairs of layers (the student's, the teacher's) whose outputs have the same shape when both are ``run``."""
    own = Features(student, [pair[0] for pair in candidates])
    taught = Features(teacher, [pair[1] for pair in candidates])
    for module, seen in ((student, own), (teacher, taught)):
        with seen.watching():
            run(module)
    return [pair for pair in candidates if own.hidden[pair[0]].shape == taught.hidden[pair[1]].shape]


def pairs(student: Sequence[Layer], teacher: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """Pair each layer of the student with the teacher's at the same relative depth: TinyBERT's uniform mapping
    (Jiao et al., 2020).
    """
    return [
        (name, teacher[round((number + 1) * len(teacher) / len(student)) - 1]) for number, name in enumerate(student)
    ]
