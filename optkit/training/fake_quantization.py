"""Fake quantization in training: weights and activations rounded as integer kernels will round them.

"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", Jacob et al., 2018:
rounding in the forward pass, gradients as if there were none. Ranges are learnt with the weights: "Learned Step Size
Quantization", Esser et al., 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_INPUT, _OUTPUT = "optkit_input", "optkit_output"
"""Names of the submodules that round a layer's input and output."""
_ABSORBED = ("relu", "relu6", "hardtanh", "clamp", "clamp_min", "clip")
"""Functions that an integer kernel applies itself, by the range of its output."""


def put_into(
    module: Any,
    *,
    weight_bits: int,
    per_channel: bool,
    giving_integers: Callable[[Any], object] | None = None,
) -> int:
    """Fake-quantize convolutions and linear layers, and return their number.

    Weights are symmetric in ``weight_bits``, inputs have 8 bits and one scale. A weight that is tied to an embedding
    stays in float, as on runtimes. ``giving_integers`` is for runtimes whose kernels return integers: it runs the
    module once, and outputs of convolutions are rounded too. Activations are rounded after ``observe``.
    """
    from torch.nn.utils import parametrize

    from optkit.training.fake_quantization_modules import RoundedValues, RoundedWeights

    for norm in _norms(module):
        norm.eval()
        norm.train = _stays
    layers = list(_layers(module))
    for layer in layers:
        weights = RoundedWeights(weight_bits, _output_axis(layer) if per_channel else None)
        parametrize.register_parametrization(layer, "weight", weights, unsafe=True)
        layer.add_module(_INPUT, RoundedValues().to(layer.weight.device))
        layer.register_forward_pre_hook(_round_input)
    for last in _giving(module, giving_integers) if giving_integers else ():
        last.add_module(_OUTPUT, RoundedValues().to(next(module.parameters()).device))
        last.register_forward_hook(_round_output)
    return len(layers)


def observe(module: Any, run: Callable[[Any], object]) -> None:
    """Observe the ranges of activations while ``run`` runs the module, as in calibration; no weight changes."""
    module.eval()
    values = [each for _, _, each in _values(module)]
    for each in values:
        each.watching = True
    run(module)
    for each in values:
        each.settle()


def ranges(module: Any) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the learnt ranges of each layer's ``input`` and ``output`` that are narrower than the values observed."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, side, each in _values(module):
        low, high = (float(value.detach()) for value in each.learnt())
        if bool(each.seen) and (low > each.extremes[0] or high < each.extremes[1]):
            found.setdefault(name, {})[side] = (low, high)
    return found


def _values(module: Any) -> list[tuple[str, str, Any]]:
    """Return every module that rounds activations, with the name of its layer and ``input`` or ``output``."""
    sides = {_INPUT: "input", _OUTPUT: "output"}
    return [
        (name, side, getattr(layer, key))
        for name, layer in module.named_modules()
        for key, side in sides.items()
        if hasattr(layer, key)
    ]


def take_out(module: Any) -> None:
    """Remove fake quantization: the weights stay in float, as they were trained."""
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
    """Convolutions and linear layers whose weight is not an embedding's."""
    import torch

    embedded = {id(each.weight) for each in module.modules() if isinstance(each, torch.nn.Embedding)}
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.conv._ConvNd | torch.nn.Linear) and id(layer.weight) not in embedded:
            yield layer


def _norms(module: Any) -> list[Any]:
    """Batch norms. Their statistics stay as they are: they are folded into weights after training, and those of the
    last batches, rounded and few, would be worse.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


def _stays(mode: bool = True) -> None:
    """A module's ``train`` that changes nothing."""


def _output_axis(layer: Any) -> int:
    """Return the axis of a weight's output channels: the second in transposed convolutions, else the first."""
    return 1 if getattr(layer, "transposed", False) else 0


def _round_input(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(layer, _INPUT)(inputs[0]), *inputs[1:])


def _round_output(layer: Any, _: tuple[Any, ...], output: Any) -> Any:
    return getattr(layer, _OUTPUT)(output)


def _giving(module: Any, run: Callable[[Any], object]) -> list[Any]:
    """Return modules whose output is that of a convolution's kernel: the convolution, or the batch norm folded into it.

    Not if only a ReLU or a clip reads it: the kernel applies that, too.
    """
    import torch

    from optkit.training.function_modes import Consumers

    seen: dict[Any, tuple[Any, Any]] = {}
    consumers = Consumers()

    def note(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        seen[layer] = (inputs[0], output)

    layers = [each for each in _layers(module) if isinstance(each, torch.nn.modules.conv._ConvNd)]
    norms = _norms(module)
    hooks = [each.register_forward_hook(note) for each in (*layers, *norms)]
    try:
        with consumers:
            run(module)
    finally:
        for hook in hooks:
            hook.remove()
    folded = {id(seen[norm][0]): norm for norm in norms if norm in seen}
    found = []
    for layer in layers:
        if layer in seen:
            last = folded.get(id(seen[layer][1]), layer)
            if not consumers.are(seen[last][1], _ABSORBED):
                found.append(last)
    return found
