"""Random models with fields that were changed on the way: what conversion says of them has to be an error of ours.

By hand, for a long run: python -m tests.convert.mutated_onnx 5000 [first seed]
"""

import collections
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

from amlrealtimeai.convert import convert_onnx
from amlrealtimeai.errors import AmlRealtimeAiError
from tests.convert.random_onnx import Builder

NUMBERS = (0, -1, 1, 2, 3, 7, 100, 2**31 - 1, -(2**31), 2**40, -(2**63), 2**63 - 1)
OTHER_OPS = ("Nope", "Loop", "Scan", "If", "Constant", "RandomNormal", "Multinomial", "NonZero", "Resize", "TopK")


def mutated(seed: int) -> onnx.ModelProto:
    """A random model in which one to three fields were changed."""
    model, _ = Builder(seed % 50).build()
    random = np.random.default_rng(seed)
    for _ in range(int(random.integers(1, 4))):
        if model.graph.node:
            _change(model, random)
    return model


def _change(model: onnx.ModelProto, random: np.random.Generator) -> None:
    def pick(options: Any) -> Any:
        return options[int(random.integers(len(options)))]

    graph, values = model.graph, [v for n in model.graph.node for v in n.output] + ["x", "", "nope"]
    node, tensor, kind = pick(graph.node), pick(graph.initializer), int(random.integers(10))
    if kind == 0 and node.attribute:
        attribute = pick(node.attribute)
        attribute.f = float(pick([0, np.nan, np.inf, -1, 1e30]))
        if attribute.type == AttributeProto.INTS and attribute.ints:
            attribute.ints[int(random.integers(len(attribute.ints)))] = pick(NUMBERS)
        elif attribute.type == AttributeProto.INT:
            attribute.i = pick(NUMBERS)
    elif kind == 1 and node.attribute:
        del node.attribute[int(random.integers(len(node.attribute)))]
    elif kind == 2 and node.input:
        node.input[int(random.integers(len(node.input)))] = pick(values)
    elif kind == 3:
        node.op_type = pick([*(n.op_type for n in graph.node), *OTHER_OPS])
    elif kind == 4 and tensor.dims:
        tensor.dims[int(random.integers(len(tensor.dims)))] = pick(NUMBERS)
    elif kind == 5:
        tensor.data_type = int(random.integers(0, 24))
    elif kind == 6:
        graph.node.remove(node)
    elif kind == 7:
        pick(graph.input[0].type.tensor_type.shape.dim).dim_value = pick(NUMBERS)
    elif kind == 8:
        tensor.raw_data = tensor.raw_data[: int(random.integers(len(tensor.raw_data) + 1))]
    else:
        graph.output.append(helper.make_empty_tensor_value_info(pick(values)))


def outcome(seed: int, folder: Path) -> str:
    """ "converted", or the class of the error; other errors than ours are raised."""
    data = mutated(seed).SerializeToString()
    (folder / "m.onnx").write_bytes(data)
    try:
        convert_onnx(folder / "m.onnx", folder / "out", name="m", require_fpga=False)
    except AmlRealtimeAiError as error:
        return type(error).__name__
    return "converted"


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        print(collections.Counter(outcome(seed, Path(folder)) for seed in range(first, first + count)))
