"""The eight networks of the middle edition."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel, QuantizedModel
from amlrealtimeai.accel.models.checks import check_graph
from amlrealtimeai.accel.models.densenet import DENSENET121
from amlrealtimeai.accel.models.frozen import import_frozen, write_featurizer
from amlrealtimeai.accel.models.resnet import RESNET50, RESNET152
from amlrealtimeai.accel.models.vgg import VGG16
from amlrealtimeai.convert.convert import convert_frozen
from amlrealtimeai.convert.saved_model import from_session
from amlrealtimeai.errors import InvalidInputError


class _Classifier:
    """get_default_classifier(features) of a model; of a class, as it was at first, (features, folder) -> both ends."""

    def __get__(self, model: "BrainwaveModel | None", owner: type["BrainwaveModel"]) -> Callable[..., Any]:
        if model is not None:
            return partial(FloatModel.get_default_classifier, model)

        def of_class(input_tensor: tf.Tensor, model_dir: str | os.PathLike[str]) -> tuple[tf.Tensor, tf.Tensor]:
            return input_tensor, FloatModel.get_default_classifier(owner(model_dir), input_tensor)

        return of_class


class BrainwaveModel(FloatModel):
    """What the middle edition's networks have beside today's; a frozen one has constants for weights."""

    get_default_classifier = _Classifier()

    @property
    def input_dims(self) -> list[int | None]:
        """Dimensions of the images, the batch first."""
        return self.get_input_dims()

    @property
    def output_dims(self) -> list[int | None]:
        """Dimensions of the features, the batch first."""
        return self.get_output_dims()

    @property
    def input_tensor_name(self) -> str:
        """Name of the images' tensor."""
        return self.input_tensor_list[0]

    @property
    def output_tensor_name(self) -> str:
        """Name of the features' tensor."""
        return self.output_tensor_list[0]

    def import_graph_def(self, input_tensor: tf.Tensor | None = None, is_training: Any = True) -> tf.Tensor:
        """Add the featurizer to the default graph and return its features; a frozen one is ready to run."""
        if not self.is_frozen:
            return super().import_graph_def(input_tensor, is_training)
        check_graph("import_graph_def")
        images = self._checked_input(input_tensor)
        features = import_frozen(self, images)
        self._imported = replace(self._latest(), inputs=[images.name], outputs=[features.name])
        return features

    def restore_weights(self, session: tf.Session | None = None) -> None:
        """Give the variables their weights; a frozen network has none."""
        if not self.is_frozen:
            super().restore_weights(session)

    def save_weights(self, path: str | os.PathLike[str], session: tf.Session | None = None) -> str:
        """Write the weights as a checkpoint. InvalidInputError for a frozen network: its weights are constants."""
        if self.is_frozen:
            raise InvalidInputError(
                f"{self.model_ref} is frozen: its weights are constants of the graph. Make it with is_frozen=False"
            )
        return super().save_weights(path, session)

    def convert_featurizer(self, path: Path, session: tf.Session) -> None:
        """Write the featurizer alone, for the NPU, as a converted model, with its weights in the session."""
        if self.is_frozen or self._imported is None:
            write_featurizer(self, path)
            return
        frozen = from_session(session, self.input_tensor_name, self.output_tensor_name)
        convert_frozen(frozen, path, name=self.model_ref, on_npu=True)


class FloatBrainwaveModel(BrainwaveModel):
    """A network in float32, with weights of its own from custom_weights_directory."""

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        is_frozen: bool = False,
        custom_weights_directory: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(model_base_path, is_frozen, custom_weights_directory or weights)


class QuantizedBrainwaveModel(BrainwaveModel, QuantizedModel):
    """A network in block floating point."""


class Resnet50(FloatBrainwaveModel):
    """ResNet-50 in float32."""

    network = RESNET50


class QuantizedResnet50(QuantizedBrainwaveModel):
    """ResNet-50 in block floating point."""

    network = RESNET50


class Resnet152(FloatBrainwaveModel):
    """ResNet-152 in float32."""

    network = RESNET152


class QuantizedResnet152(QuantizedBrainwaveModel):
    """ResNet-152 in block floating point."""

    network = RESNET152


class Densenet121(FloatBrainwaveModel):
    """DenseNet-121 in float32, for RGB images times 0.017."""

    network = DENSENET121


class QuantizedDensenet121(QuantizedBrainwaveModel):
    """DenseNet-121 in block floating point."""

    network = DENSENET121


class Vgg16(FloatBrainwaveModel):
    """VGG-16 in float32."""

    network = VGG16


class QuantizedVgg16(QuantizedBrainwaveModel):
    """VGG-16 in block floating point."""

    network = VGG16
