"""What a graph has to answer to be cut into stages, converted and compared: TensorFlow's, or that of an ONNX model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

Sizes = list[int | None] | None


class Source(Protocol):
    """Nodes by name, each with its `op`; tensors by name.

    framework: who computes what a conversion is compared with. advice: what helps where a host stage differs from it.
    """

    framework: str
    advice: str
    nodes: dict[str, Any]

    def maker(self, tensor: str) -> str:
        """Name of the node that makes `tensor`."""
        ...

    def results(self, name: str) -> list[str]:
        """What the node makes; of several results, one may stand for all."""
        ...

    def inputs(self, node: Any) -> list[str]:
        """The tensors that a node reads."""
        ...

    def dtype(self, tensor: str) -> str:
        """Element type: "float32", "string", ...; "" where it is unknown."""
        ...

    def shape(self, tensor: str) -> Sizes:
        """Sizes, None for those that are not fixed; None when even the rank is unknown."""
        ...

    def ancestors(self, tensors: Iterable[str], stop: Iterable[str] = ()) -> list[str]:
        """Names of the nodes that `tensors` need, inputs first; `stop` tensors count as given."""
        ...

    def constants(self, names: Iterable[str]) -> set[str]:
        """Those of `names` (inputs first) whose value depends on constants only."""
        ...

    def resolve(self, tensor: str, stop: Iterable[str] = ()) -> str:
        """Follow nodes that only pass a value on back to the tensor that has it; `stop` tensors end the walk."""
        ...

    def float_graph(self, outputs: Iterable[str]) -> Self:
        """What `outputs` need, without the quantisers of accel.models."""
        ...

    def is_convolution(self, name: str) -> bool:
        """Whether the node is what the NPU is for."""
        ...

    def begins_classifier(self, name: str) -> bool:
        """Whether the node, behind the last convolution, begins what stays in float32."""
        ...

    def refusal(self, name: str) -> str | None:
        """Why the node cannot run on the NPU, where the compiler need not even be asked."""
        ...

    def multiplications(self, name: str) -> float:
        """Of a node with matrix work, for one image; 0 for others."""
        ...

    def image_shape(self, tensor: str) -> Sizes:
        """Shape of an NPU input, batch first; ConversionError where the NPU cannot read such a tensor."""
        ...

    def npu_part(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """onnx.ModelProto of what lies between, for npu.compile."""
        ...

    def host_part(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        """ONNX file of what lies between, for ONNX Runtime, and {its input: tensor}. Raises ConversionError."""
        ...

    def origin(self, node: str, names: set[str], model: Any) -> str:
        """The one of the nodes `names` that a node of the npu_part `model` was made of."""
        ...

    def sample(self, tensor: str, pixels: np.ndarray, scale: float) -> np.ndarray:
        """Numbers of 0 to 255, [n, height, width, channels] or of the tensor's own shape, as values of an input."""
        ...

    def sample_shape(self, tensor: str) -> list[int]:
        """Shape of a sample of two for an input; of an image [n, height, width, channels]."""
        ...

    def values(self, feed: Mapping[str, np.ndarray], tensors: Sequence[str]) -> dict[str, np.ndarray]:
        """The framework's values of `tensors`; `feed`, which is part of the answer, overrides tensors by name.

        Raises ConversionError.
        """
        ...


@dataclass
class LoadedModel:
    """A model ready to be cut: a frozen graph for inference and what its author noted in it (convert.notes).

    inputs, outputs: names of tensors; input_aliases, output_aliases: what clients call them, where that has been said.
    """

    graph: Source
    inputs: list[str]
    outputs: list[str]
    input_aliases: dict[str, str]
    output_aliases: dict[str, str]
    preprocess: list[dict[str, Any]] = field(default_factory=list)
    featurizers: list[dict[str, Any]] = field(default_factory=list)


def consumers(source: Source, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Tensor -> names of the nodes that read it, among `names` (default: all nodes)."""
    readers: dict[str, list[str]] = {}
    for name in source.nodes if names is None else names:
        for tensor in source.inputs(source.nodes[name]):
            readers.setdefault(tensor, []).append(name)
    return readers
