"""What conversion asks of a TensorFlow graph: which nodes are convolutions, its parts as ONNX, its values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from amlrealtimeai.convert import to_onnx
from amlrealtimeai.convert.failures import one_line
from amlrealtimeai.convert.graph import Graph, drop_quantisers, node_name
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.convert.source import Sizes
from amlrealtimeai.errors import ConversionError

_CONVOLUTION = re.compile(r"(DepthwiseConv2dNative|Conv2D\w*)")
_CLASSIFIER = re.compile(
    r"Reshape|Squeeze|ExpandDims|Transpose|Shape|StridedSlice|Slice|Pack|Unpack|Gather\w*|(Batch)?MatMul(V2)?|Cast"
)
_NUMBERED = re.compile(r"__\d+$")  # how tf2onnx makes names of its own
_GREY = 117.0


class TensorFlowSource(Graph):
    """A frozen graph as convert.source.Source describes it."""

    framework = "TensorFlow"
    advice = "Rewrite the stage with simpler TensorFlow ops."

    @classmethod
    def of(cls, graph: Graph) -> "TensorFlowSource":
        """The same nodes."""
        return cls(graph.graph_def, copy=False, weights=graph.weights)

    def maker(self, tensor: str) -> str:
        """Name of the node that makes `tensor`."""
        return node_name(tensor)

    def results(self, name: str) -> list[str]:
        """The node's first result."""
        return [f"{name}:0"]

    def dtype(self, tensor: str) -> str:
        """Element type by name."""
        return str(self.tensor(tensor).dtype.base_dtype.name)

    def float_graph(self, outputs: Iterable[str]) -> "TensorFlowSource":
        """What `outputs` need, without quantisers."""
        return TensorFlowSource.of(drop_quantisers(self, outputs)[0])

    def is_convolution(self, name: str) -> bool:
        """Whether the node is a convolution, a depthwise or a transposed one."""
        return _CONVOLUTION.fullmatch(self.nodes[name].op) is not None

    def begins_classifier(self, name: str) -> bool:
        """Whether the node only moves data, or is a dense layer."""
        return _CLASSIFIER.fullmatch(self.nodes[name].op) is not None

    def refusal(self, name: str) -> str | None:
        """Why a batch normalisation cannot run on the NPU; None when it can, and for other nodes."""
        node = self.nodes[name]
        if node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b:
            return (
                "is in training mode, so it has no fixed scale; expected inference mode. Build the graph for export "
                "with import_graph_def(..., is_training=False)."
            )
        return None

    def multiplications(self, name: str) -> float:
        """Of a convolution, for one image; 0 for other nodes."""
        if not self.is_convolution(name):
            return 0.0
        node = self.nodes[name]
        shapes = [self.shape(tensor) or [] for tensor in (self.inputs(node)[1], f"{name}:0")]
        taps, result = ([float(size or 1) for size in shape] for shape in shapes)
        per_output = taps[:3] if node.op.startswith("Conv") else taps[:2]
        return float(np.prod([*per_output, *result[1:]]))

    def image_shape(self, tensor: str) -> Sizes:
        """[1, height, width, channels]; ConversionError when it is not static."""
        return to_onnx.image_shape(self, tensor)

    def npu_part(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """onnx.ModelProto as tf2onnx maps it, batch 1."""
        return to_onnx.convert_featurizer(self, inputs, outputs)

    def host_part(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        """ONNX file as tf2onnx maps it, with a free batch."""
        return to_onnx.convert_host(self, name, inputs, outputs)

    def origin(self, node: str, names: set[str], model: Any) -> str:
        """The TensorFlow node that an ONNX node was made of: by its name, else the next one that a result leads to."""
        if (name := _NUMBERED.sub("", node)) in names:
            return name
        readers: dict[str, list[Any]] = {}
        for other in model.graph.node:
            for value in other.input:
                readers.setdefault(value, []).append(other)
        values = [v for n in model.graph.node if n.name == node or node in n.output for v in n.output]
        for value in values:  # grows: nearest first
            if node_name(value) in names:
                return node_name(value)
            values += [v for reader in readers.get(value, ()) for v in reader.output if v not in values]
        raise ConversionError(
            f"tf2onnx made a node {node!r} that leads to no TensorFlow node; please report this model"
        )

    def sample_shape(self, tensor: str) -> list[int]:
        """Two items; images of free size get 64 x 64."""
        known = self.shape(tensor)
        known = [2] if known is None else known
        return [size or (64 if len(known) == 4 and axis in (1, 2) else 2) for axis, size in enumerate(known)]

    def sample(self, tensor: str, pixels: np.ndarray, scale: float) -> np.ndarray:
        """Pixels, centred where the type has a sign; whole numbers that may be indices are 0 and 1."""
        dtype = self.tensor(tensor).dtype.base_dtype
        values = pixels if dtype.is_unsigned else (pixels - _GREY) * scale
        if dtype.is_integer and not dtype.is_unsigned and np.ndim(pixels) < 4:
            values = np.asarray(pixels > _GREY)
        return np.asarray(values).astype(dtype.as_numpy_dtype)  # of no axes, NumPy makes a number

    def values(self, feed: Mapping[str, np.ndarray], tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """TensorFlow's values of `tensors`."""
        fetch = [tensor for tensor in dict.fromkeys(tensors) if tensor not in feed]
        try:
            values = self.run(fetch, feed)
        except tensorflow().errors.OpError as error:
            raise ConversionError(
                f"TensorFlow itself cannot run the model on a sample input: {one_line(error)}. "
                "Expected a string input that holds an image, or numbers like pixels."
            ) from error
        return {**feed, **dict(zip(fetch, values, strict=True))}
