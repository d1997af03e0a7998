"""What all networks share: building the graph, restoring and saving weights, the default classifier."""

import operator
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import weights as weight_sources
from amlrealtimeai.accel.models.checks import check_graph, check_tensor, session_errors, session_of
from amlrealtimeai.accel.models.layers import Builder, QuantizedBuilder
from amlrealtimeai.convert import notes
from amlrealtimeai.core.arguments import check_flag, check_path
from amlrealtimeai.errors import InvalidInputError, UnsupportedError, WeightsError
from amlrealtimeai.npu.formats import BlockFormat, as_format

_PLACEHOLDER = "InputImage"
DEFAULT_FORMAT = "bw_cnn"


class DoesNotExistError(UnsupportedError, ValueError):
    """A network has no default classifier."""


class NoSuchTensorError(InvalidInputError, IndexError):
    """A network has fewer inputs or outputs."""


@dataclass(frozen=True)
class Network:
    """An architecture: everything that differs between two model classes.

    name: model_ref and the weight file's name. scope: prefix of tensors and of variables in checkpoints.
    input_dims, output_dims: without the batch dimension.
    featurizer: (builder, images float32 [n, h, w, 3]) -> feature tensors.
    classifier: (features, *arrays in the order of classifier_shapes) -> output tensor; None where there is none.
    classifier_shapes: Keras' names and shapes of the classifier's arrays.
    keras_file: path under keras-applications/ and MD5 of the ImageNet weights; None where there are none.
    output_names, classifier_name: of the featurizer's and the classifier's output operations, below the scope.
    """

    name: str
    scope: str
    version: str
    input_dims: list[int]
    output_dims: list[list[int]]
    featurizer: Callable[[Builder, tf.Tensor], list[tf.Tensor]]
    classifier: Callable[..., tf.Tensor] | None
    classifier_shapes: dict[str, tuple[int, ...]]
    keras_file: tuple[str, str] | None
    output_names: tuple[str, ...] = ()
    classifier_name: str | None = None

    def tensor(self, name: str) -> str:
        """Name that the output of operation `name` has in the first import into a graph."""
        return f"{self.scope}/{name}:0"


@dataclass(frozen=True)
class _Imported:
    """One import into one graph."""

    builder: Builder
    inputs: list[str]
    outputs: list[str]
    saver: tf.train.Saver


class FloatModel:
    """A network in float32.

    model_base_path: folder for this package's downloads; `<model_base_path>/<model_ref>/<version>` is looked at for
        ImageNet weights. It need not exist.
    is_frozen: True keeps the network's variables out of TRAINABLE_VARIABLES.
    weights: "workshop" (shipped; trained on pictures made of emoji), "photographs" (shipped for ResNet-50: ImageNet's,
        kernels rounded to 8 bits), "imagenet" (keras.applications, downloaded once), "random", a folder that
        save_weights wrote to, a Keras .h5 file, or an archive .npz that training wrote. None: AMLREALTIMEAI_WEIGHTS,
        else workshop.
    Raises WeightsError where `weights` does not exist.
    """

    network: ClassVar[Network]
    classifier_input: ClassVar[str | None] = None
    """Name of the tensor that the default classifier reads: the features; None where there is no classifier."""
    classifier_output: ClassVar[str | None] = None
    """Name of the default classifier's answer, below its prefix: f"classifier/{model.classifier_output}"."""

    def __init_subclass__(cls) -> None:
        network = vars(cls).get("network")
        if network is not None and network.classifier_name:
            cls.classifier_input = network.tensor(network.output_names[0])
            cls.classifier_output = network.tensor(network.classifier_name)

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        is_frozen: bool = False,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        self._base = check_path("model_base_path", model_base_path)
        self.is_frozen = check_flag("is_frozen", is_frozen)
        self._weights = weight_sources.resolve(weights, self.network)
        self._imported: _Imported | None = None

    @property
    def model_ref(self) -> str:
        """Name of the network, the same for the float and the quantised class: "resnet50"."""
        return self.network.name

    @property
    def model_version(self) -> str:
        """Version of the network's definition."""
        return self.network.version

    @property
    def version(self) -> str:
        """The same as model_version."""
        return self.network.version

    @property
    def weights(self) -> str:
        """Where the weights come from: "workshop", "photographs", "imagenet", "random", a folder or a file."""
        return str(self._weights)

    @property
    def model_path(self) -> str:
        """Folder of this network and version under model_base_path."""
        return str(self._base / self.model_ref / self.model_version)

    @property
    def input_tensor_list(self) -> list[str]:
        """Names of the featurizer's input tensors: in the latest import, before it those that a first one gives."""
        return list(self._imported.inputs) if self._imported else [f"{_PLACEHOLDER}:0"]

    @property
    def output_tensor_list(self) -> list[str]:
        """Names of the featurizer's output tensors: in the latest import, before it those that a first one gives."""
        if self._imported is None:
            return [self.network.tensor(name) for name in self.network.output_names]
        return list(self._imported.outputs)

    def get_input_dims(self, index: int = 0) -> list[int | None]:
        """Dimensions of an input, the batch first: [None, 224, 224, 3]. IndexError where there is no such input."""
        return _dims("input", [self.network.input_dims], index)

    def get_output_dims(self, index: int = 0) -> list[int | None]:
        """Dimensions of an output, the batch first: [None, 1, 1, 2048]. IndexError where there is no such output."""
        return _dims("output", self.network.output_dims, index)

    def import_graph_def(
        self, input_tensor: tf.Tensor | None = None, is_training: bool | tf.Tensor = True
    ) -> tf.Tensor | list[tf.Tensor]:
        """Add the featurizer to the default graph; returns its output tensor, or the list of them.

        input_tensor: preprocessed images, float32 get_input_dims(); None adds the placeholder "InputImage:0".
        is_training: True (default): weights are trainable unless the model is frozen; batch normalisation uses its
            moving statistics, as the deployed network will. False: for inference only, nothing is trainable. A scalar
            boolean tensor, for float models that are not frozen: batch normalisation uses the batch's statistics while
            it is true, and updates the moving ones.
        Variables are NaN until restore_weights. Raises InvalidInputError for another type or size of input.
        """
        check_graph("import_graph_def")
        if not tf.is_tensor(is_training):
            is_training = check_flag("is_training", is_training)
        images = self._checked_input(input_tensor)
        with tf.name_scope(self.network.scope):
            builder = self._builder(is_training)
            outputs = self.network.featurizer(builder, images)
            # relative paths, so that the folder can be moved
            saver = tf.train.Saver({e.name: e.variable for e in builder.entries}, save_relative_paths=True)
        names = [tensor.name for tensor in outputs]
        self._imported = _Imported(builder, [images.name], names, saver)
        for source, results in builder.parts or [(images, outputs)]:
            note = self._description(source.name, [tensor.name for tensor in results])
            notes.add(notes.FEATURIZER, note)
        return outputs[0] if len(outputs) == 1 else outputs

    def restore_weights(self, session: tf.Session | None = None) -> None:
        """Give the variables of the latest import their weights. Raises WeightsError naming what does not fit.

        session: None is the default session.
        """
        entries = self._latest().builder.entries
        session = session_of("restore_weights", session, entries[0].variable.graph)
        found = weight_sources.values(self._weights, self.network, Path(self.model_path), entries)
        variables = [entry.variable for entry in entries]
        feed = {v.initializer.inputs[1]: value for v, value in zip(variables, found, strict=True)}
        with session_errors():
            session.run([variable.initializer for variable in variables], feed)

    def save_weights(self, path: str | os.PathLike[str], session: tf.Session | None = None) -> str:
        """Write the latest import's weights as a TensorFlow checkpoint with the prefix `path`; returns the prefix.

        The folder of `path` is made if needed; give it as custom_weights_directory or weights= to load them again, in
        either twin. session: None is the default session.
        """
        latest = self._latest()
        session = session_of("save_weights", session, latest.builder.entries[0].variable.graph)
        prefix = check_path("path", path)
        with session_errors():
            prefix.parent.mkdir(parents=True, exist_ok=True)
            return latest.saver.save(session, str(prefix), write_meta_graph=False)

    def get_default_classifier(self, input_tensor: tf.Tensor, prefix: str = "classifier") -> tf.Tensor:
        """Add the 1000-class ImageNet classifier, with constant weights, under the name scope `prefix`.

        input_tensor: the features, float32. Returns float32 [n, 1000]: probabilities, for VGG-16 logits, as the
        original did. Weights come from this model's source; a checkpoint holds none, then those of the default source
        are used. Raises InvalidInputError for features of another size.
        """
        if self.network.classifier is None:
            raise DoesNotExistError(f"{self.model_ref} has no classifier: its outputs are the result")
        self._check_features(input_tensor)
        arrays = weight_sources.classifier_values(self._weights, self.network, Path(self.model_path))
        ordered = [np.ascontiguousarray(arrays[key], np.float32) for key in self.network.classifier_shapes]
        with tf.name_scope(prefix), tf.name_scope(self.network.scope):
            return self.network.classifier(input_tensor, *ordered)

    def _latest(self) -> _Imported:
        if self._imported is None:
            raise InvalidInputError("the graph is not there yet: call import_graph_def first")
        return self._imported

    def _checked_input(self, tensor: tf.Tensor | None) -> tf.Tensor:
        expected = tf.TensorShape([None, *self.network.input_dims])
        if tensor is None:
            return tf.placeholder(tf.float32, expected, name=_PLACEHOLDER)
        check_tensor("input_tensor", tensor)
        if tensor.dtype != tf.float32 or not expected.is_compatible_with(tensor.shape):
            raise InvalidInputError(
                f"{self.model_ref} expects images float32 {expected}, got {tensor.dtype.name} {tensor.shape} "
                f"({tensor.name}). Prepare them with amlrealtimeai.accel.models.utils.preprocess_array"
            )
        return (
            tensor if tensor.shape.rank and tensor.shape[1:].is_fully_defined() else tf.ensure_shape(tensor, expected)
        )

    def _check_features(self, tensor: tf.Tensor) -> None:
        expected = self.network.output_dims[0]
        check_tensor("input_tensor", tensor)
        size = tensor.shape.num_elements() if tensor.shape.rank == 0 else tensor.shape[1:].num_elements()
        if tensor.dtype != tf.float32 or (size is not None and size != np.prod(expected)):
            raise InvalidInputError(
                f"the classifier of {self.model_ref} expects its features, float32 {[None, *expected]}, got "
                f"{tensor.dtype.name} {tensor.shape} ({tensor.name}). Pass what import_graph_def returned"
            )

    def _builder(self, is_training: bool | tf.Tensor) -> Builder:
        batch_phase = None if isinstance(is_training, bool) or self.is_frozen else tf.convert_to_tensor(is_training)
        return Builder(self.network.scope, self._is_trainable(is_training), batch_phase)

    def _is_trainable(self, is_training: bool | tf.Tensor) -> bool:
        return not self.is_frozen and is_training is not False

    def _description(self, images: str, outputs: list[str]) -> dict[str, Any]:
        """What a converter needs to know, as it stands in the graph's collection."""
        return {
            "model": self.model_ref,
            "version": self.model_version,
            "inputs": [images],
            "outputs": outputs,
            "quantized": False,
            "format": None,
        }


class QuantizedModel(FloatModel):
    """A network in block floating point, with the variables of its float twin and straight-through gradients.

    custom_weights_directory: a folder that save_weights of either twin wrote to.
    number_format: a preset's name or a BlockFormat of amlrealtimeai.npu; None is "bw_cnn".
    The rest as for the float twin. Batch normalisation is folded into the weights, with its moving statistics.
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        is_frozen: bool = False,
        custom_weights_directory: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        number_format: str | BlockFormat | None = None,
    ) -> None:
        if custom_weights_directory is not None:
            if weights is not None:
                raise WeightsError("expected custom_weights_directory or weights, got both: leave one out")
            weights = check_path("custom_weights_directory", custom_weights_directory)
            if not weights.is_dir() and not weight_sources.is_checkpoint(weights):
                raise WeightsError(
                    f"custom_weights_directory {os.fspath(custom_weights_directory)!r} is not a folder: give the one "
                    "that holds the checkpoint written by save_weights"
                )
        super().__init__(model_base_path, is_frozen, weights)
        self.number_format = as_format(number_format or DEFAULT_FORMAT)

    def _builder(self, is_training: bool | tf.Tensor) -> Builder:
        if not isinstance(is_training, bool) and not self.is_frozen:
            raise UnsupportedError(
                "a quantised network folds its batch normalisation, so is_training has to be True or False, not a "
                "tensor. Train batch statistics in the float twin, then load its weights here"
            )
        return QuantizedBuilder(self.network.scope, self._is_trainable(is_training), self.number_format)

    def _description(self, images: str, outputs: list[str]) -> dict[str, Any]:
        fmt = self.number_format
        numbers = {"block": fmt.block, "mantissa_bits": fmt.mantissa_bits, "exponent_bits": fmt.exponent_bits}
        return {**super()._description(images, outputs), "quantized": True, "format": numbers}


def _dims(side: str, known: list[list[int]], index: int) -> list[int | None]:
    try:
        return [None, *known[operator.index(index)]]
    except (TypeError, IndexError):
        raise NoSuchTensorError(f"expected an {side} from 0 to {len(known) - 1}, got {index!r}") from None
