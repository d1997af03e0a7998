"""Layers that join: batch normalisation with the product before it, a gate with its sigmoid."""

from collections import Counter
from dataclasses import replace

from amlrealtimeai.npu.lowering.layers import Layer

PRODUCTS = ("conv", "filter")
_ACTIVATIONS = (
    *("v_relu", "v_prelu", "v_clip", "v_threshold"),
    *("v_sigmoid", "v_silu", "v_hsigmoid", "v_hswish"),
)
_SWISHES = {"v_sigmoid": "v_silu", "v_hsigmoid": "v_hswish"}


def is_activation(layer: Layer) -> bool:
    """Whether the layer is one function, value by value, that can end the chain before it."""
    return layer.op == "vector" and len(layer.steps) == 1 and layer.steps[0].op in _ACTIVATIONS


def swished(layers: list[Layer], kept: set[str]) -> list[Layer]:
    """`layers` with x * sigmoid(x) and x * hard_sigmoid(x) as one function of x."""
    uses = Counter(tensor for layer in layers for tensor in layer.inputs)
    uses.update(kept)
    gates = {
        layer.output: layer
        for layer in layers
        if layer.op == "vector" and len(layer.steps) == 1 and layer.steps[0].op in _SWISHES and uses[layer.output] == 1
    }
    found: list[Layer] = []
    for layer in layers:
        gate = next((gates[name] for name in layer.inputs if name in gates), None) if layer.op == "mul" else None
        if gate is not None and gate.inputs[0] in layer.inputs:
            found.remove(gate)
            step = gate.steps[0]
            layer = replace(layer, op="vector", inputs=gate.inputs, steps=(replace(step, op=_SWISHES[step.op]),))
        found.append(layer)
    return found


def fold(layers: list[Layer], kept: set[str]) -> list[Layer]:
    """`layers` with every affine that alone follows a convolution or another affine taken into it."""
    uses = Counter(tensor for layer in layers for tensor in layer.inputs)
    uses.update(kept)
    makers: dict[str, int] = {}
    folded: list[Layer] = []
    for layer in layers:
        place = makers.get(layer.inputs[0])
        if layer.op == "affine" and place is not None and uses[layer.inputs[0]] == 1:
            folded[place] = folded[place].then(layer)
        else:
            place = len(folded)
            # an affine that stays becomes x*gain + bias
            alone = replace(layer, gain=None, bias=None, mean=None).then(layer) if layer.op == "affine" else layer
            folded.append(alone)
        if folded[place].op in (*PRODUCTS, "affine"):
            makers[folded[place].output] = place
    return folded
