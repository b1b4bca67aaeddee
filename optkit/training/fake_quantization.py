"""Fake quantization while training: what layers compute with rounded as integer kernels will round it.

"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", Jacob et al., 2018: the
rounding is in the forward pass, and gradients go through as if it were not there. The ranges are learnt with the
weights: "Learned Step Size Quantization", Esser et al., 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_KEPT = 4_000
"""Values of a batch that are kept while ranges are seen."""
_SHARES = tuple(number / 50 for number in range(5, 51))
"""Of the range seen, those tried: the one with the least error is begun with."""
_PACE = 10.0
"""How much faster ranges are learnt than weights: in relation to their size, which no learning rate knows."""
_INPUT, _OUTPUT = "optkit_input", "optkit_output"
_ABSORBED = ("relu", "relu6", "hardtanh", "clamp", "clamp_min", "clip")
"""Functions that integers of the right range do by themselves."""
_LOOKING = ("__get__", "size", "dim", "detach")
"""Functions that read no values, or not for the model's sake."""


def put_into(
    module: Any,
    *,
    weight_bits: int,
    per_channel: bool,
    giving_integers: Callable[[Any], object] | None = None,
) -> int:
    """Round weights (symmetric) and inputs (8 bits, one scale) of convolutions and linear layers; how many those are.

    Only layers with a weight of their own: one that is tied to an embedding stays in float on runtimes, too. With
    ``giving_integers``, which runs the module once, also what convolutions give, as on a runtime whose kernels give
    integers, too. Values are rounded once ``observe`` has seen their ranges.
    """
    from torch.nn.utils import parametrize

    for norm in _norms(module):
        norm.eval()
        norm.train = _stays
    layers = list(_layers(module))
    for layer in layers:
        weights = _rounded_weights(weight_bits, _output_axis(layer) if per_channel else None)
        parametrize.register_parametrization(layer, "weight", weights, unsafe=True)
        layer.add_module(_INPUT, _rounded_values().to(layer.weight.device))
        layer.register_forward_pre_hook(_round_input)
    for last in _giving(module, giving_integers) if giving_integers else ():
        last.add_module(_OUTPUT, _rounded_values().to(next(module.parameters()).device))
        last.register_forward_hook(_round_output)
    return len(layers)


def observe(module: Any, run: Callable[[Any], object]) -> None:
    """Have the values' ranges seen in what ``run`` gives the module, as calibration does; the module learns nothing."""
    module.eval()
    values = [each for _, _, each in _values(module)]
    for each in values:
        each.watching = True
    run(module)
    for each in values:
        each.settle()


def ranges(module: Any) -> dict[str, dict[str, tuple[float, float]]]:
    """The ranges learnt of layers' ``input`` and ``output``, by their names, where they cut off values seen."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, side, each in _values(module):
        low, high = (float(value.detach()) for value in each.learnt())
        if bool(each.seen) and (low > each.extremes[0] or high < each.extremes[1]):
            found.setdefault(name, {})[side] = (low, high)
    return found


def _values(module: Any) -> list[tuple[str, str, Any]]:
    """What rounds values: the name of its layer, ``input`` or ``output``, and itself."""
    sides = {_INPUT: "input", _OUTPUT: "output"}
    return [
        (name, side, getattr(layer, key))
        for name, layer in module.named_modules()
        for key, side in sides.items()
        if hasattr(layer, key)
    ]


def take_out(module: Any) -> None:
    """Leave the weights as they were trained, in float."""
    from torch.nn.utils import parametrize

    for norm in _norms(module):
        norm.__dict__.pop("train", None)
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer, "weight") and hasattr(layer, _INPUT):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        for name in (_INPUT, _OUTPUT):
            if hasattr(layer, name):
                delattr(layer, name)
        for hooks in (layer._forward_pre_hooks, layer._forward_hooks):
            for number, hook in list(hooks.items()):
                if hook in (_round_input, _round_output):
                    del hooks[number]


def _layers(module: Any) -> Iterator[Any]:
    import torch

    embedded = {id(each.weight) for each in module.modules() if isinstance(each, torch.nn.Embedding)}
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.conv._ConvNd | torch.nn.Linear) and id(layer.weight) not in embedded:
            yield layer


def _norms(module: Any) -> list[Any]:
    """Batch norms. Their statistics are kept while training, as they are folded into weights behind it: those of the
    last batches, rounded and few, would be worse.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


def _stays(mode: bool = True) -> None:
    """In place of a module's ``train``: it is left as it is."""


def _output_axis(layer: Any) -> int:
    """Where a weight's output channels lie; transposed convolutions have them second."""
    return 1 if getattr(layer, "transposed", False) else 0


def _round_input(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(layer, _INPUT)(inputs[0]), *inputs[1:])


def _round_output(layer: Any, _: tuple[Any, ...], output: Any) -> Any:
    return getattr(layer, _OUTPUT)(output)


def _giving(module: Any, run: Callable[[Any], object]) -> list[Any]:
    """The modules whose output is what a convolution's kernel gives: itself, or the batch norm that is folded into it.

    Not where only a ReLU or a clip reads it: the kernel's integers are those behind that.
    """
    import torch

    seen: dict[Any, tuple[Any, Any]] = {}
    readers = _reader_names()

    def note(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        seen[layer] = (inputs[0], output)

    layers = [each for each in _layers(module) if isinstance(each, torch.nn.modules.conv._ConvNd)]
    norms = _norms(module)
    hooks = [each.register_forward_hook(note) for each in (*layers, *norms)]
    try:
        with readers:
            run(module)
    finally:
        for hook in hooks:
            hook.remove()
    folded = {id(seen[norm][0]): norm for norm in norms if norm in seen}
    found = []
    for layer in layers:
        if layer in seen:
            last = folded.get(id(seen[layer][1]), layer)
            if not readers.only(seen[last][1], _ABSORBED):
                found.append(last)
    return found


def _reader_names() -> Any:
    """Notes which functions of torch read which tensor."""
    from torch.overrides import TorchFunctionMode

    class Readers(TorchFunctionMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.names: dict[int, set[str]] = {}
            self.kept: list[Any] = []  # so that no other tensor gets the number of one that is gone
            self.changed: set[int] = set()

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            output = func(*args, **kwargs)
            name = getattr(func, "__name__", "").rstrip("_")
            if name in _LOOKING:
                return output
            self.kept.append((args, kwargs, output))
            for each in (*args, *kwargs.values()):
                for value in each if isinstance(each, list | tuple) else (each,):
                    if id(value) not in self.changed:
                        self.names.setdefault(id(value), set()).add(name)
            if args and output is args[0]:
                self.changed.add(id(output))  # in place: what reads it from here on reads something else
            return output

        def only(self, value: Any, names: tuple[str, ...]) -> bool:
            """Whether it is read, and by nothing but functions of these names."""
            found = self.names.get(id(value), set())
            return bool(found) and found <= set(names)

    return Readers()


def _rounded_weights(bits: int, axis: int | None) -> Any:
    import torch

    limit = 2 ** (bits - 1) - 1

    class RoundedWeights(torch.nn.Module):  # type: ignore[misc]
        def forward(self, weight: Any) -> Any:
            if axis is None:
                scale = (weight.detach().abs().amax() / limit).clamp(min=1e-12)
                return torch.fake_quantize_per_tensor_affine(weight, scale, _zero(scale), -limit, limit)
            scale = (weight.detach().abs().movedim(axis, 0).flatten(1).amax(1) / limit).clamp(min=1e-12)
            return torch.fake_quantize_per_channel_affine(weight, scale, _zero(scale), axis, -limit, limit)

    return RoundedWeights()


def _rounded_values() -> Any:
    import torch

    class Values(torch.nn.Module):  # type: ignore[misc]
        """Rounds to the 256 steps of a range, which is learnt."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("extremes", torch.zeros(2))
            self.register_buffer("range", torch.zeros(2))
            self.register_buffer("seen", torch.tensor(False))
            self.stretch = torch.nn.Parameter(torch.zeros(2))
            self.watching = False
            self._kept: list[Any] = []

        def forward(self, value: Any) -> Any:
            if not value.is_floating_point():
                return value
            if self.watching:
                self._watch(value.detach().float())
            if self.watching or not self.seen:
                return value
            low, high = self.learnt()
            scale = ((high - low) / 255).clamp(min=1e-12)
            share = (value.numel() * 255) ** -0.5  # keeps the gradients of ranges the size of weights' (Esser et al.)
            return torch._fake_quantize_learnable_per_tensor_affine(
                value.float(), scale.reshape(1), (-low / scale).reshape(1), 0, 255, share
            )

        def learnt(self) -> Any:
            """The lowest and the highest value that is kept; zero is between them."""
            low, high = self.range * torch.exp(_PACE * self.stretch)
            return low, high

        def settle(self) -> None:
            """Take the range that the values kept lose least with."""
            self.watching = False
            if self.seen:
                values = torch.cat([*self._kept, self.extremes])
                self.range.copy_(
                    min((share * self.extremes for share in _SHARES), key=lambda each: _error(values, each))
                )
            self._kept = []

        def _watch(self, value: Any) -> None:
            now = torch.stack([value.min().clamp(max=0.0), value.max().clamp(min=0.0)])
            self.extremes.copy_(
                torch.stack([torch.minimum(self.extremes[0], now[0]), torch.maximum(self.extremes[1], now[1])])
            )
            self.seen.fill_(True)
            flat = value.flatten()
            count = min(_KEPT, len(flat))
            self._kept.append(flat[torch.arange(count) * len(flat) // max(1, count)])

    return Values()


def _error(values: Any, bounds: Any) -> float:
    """The squared error of values rounded to the 256 steps between two bounds."""
    low, high = bounds
    scale = ((high - low) / 255).clamp(min=1e-12)
    steps = (values.clamp(low, high) - low) / scale
    return float(((steps.round() * scale + low - values) ** 2).mean())


def _zero(scale: Any) -> Any:
    import torch

    return torch.zeros_like(scale, dtype=torch.int32)
