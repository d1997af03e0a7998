"""The first edition's ResNet-50: a frozen quantised graph in this process, or a featurizer in a service."""

import os
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.convert.quiet import tensorflow

tensorflow()  # before the modules below import it, so that its start-up lines stay away

import tensorflow.compat.v1 as tf  # noqa: E402

from amlrealtimeai.accel.models.base import QuantizedModel  # noqa: E402
from amlrealtimeai.accel.models.resnet import RESNET50, featurizer  # noqa: E402
from amlrealtimeai.client import PredictionClient  # noqa: E402
from amlrealtimeai.convert.convert import convert_frozen  # noqa: E402
from amlrealtimeai.convert.saved_model import from_session  # noqa: E402
from amlrealtimeai.deployment_client import DeploymentClient  # noqa: E402
from amlrealtimeai.errors import InvalidInputError  # noqa: E402

_INPUT = "InputImage"


class _Bgr(QuantizedModel):
    """ResNet-50 for BGR images: weight files' first kernel as it is."""

    network = replace(RESNET50, featurizer=partial(featurizer, depth=50, bgr=False))


class LocalQuantizedResNet50:
    """ResNet-50 in block floating point, frozen: nothing to restore, nothing to train.

    model_base_path: as for accel.models.Resnet50. Images are BGR (resnet50.utils.preprocess_array). weights (ours): as
    for accel.models.Resnet50.
    """

    def __init__(
        self, model_base_path: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None
    ) -> None:
        self._model = _Bgr(model_base_path, is_frozen=True, weights=weights)
        self._tensors: dict[str, Any] = {}

    @property
    def version(self) -> str:
        """Version of the network's definition."""
        return self._model.version

    def model_ref(self) -> str:
        """ "resnet50"."""
        return self._model.model_ref

    def model_version(self) -> str:
        """The same as version."""
        return self._model.model_version

    def output_dims(self) -> list[int]:
        """Dimensions of the features: [1, 1, 2048]."""
        return list(RESNET50.output_dims[0])

    @property
    def featurizer_input(self) -> Any:
        """Images, float32 [n, 224, 224, 3], of the latest import."""
        return self._tensor("featurizer_input", "include_featurizer=True")

    @property
    def featurizer_output(self) -> Any:
        """Features, float32 [n, 1, 1, 2048], of the latest import."""
        return self._tensor("featurizer_output", "include_featurizer=True")

    @property
    def classifier_input(self) -> Any:
        """Features that the classifier reads: a placeholder, or the featurizer's output."""
        return self._tensor("classifier_input", "include_top=True")

    @property
    def classifier_output(self) -> Any:
        """Probabilities, float32 [n, 1000]."""
        return self._tensor("classifier_output", "include_top=True")

    def import_graph_def(
        self, include_featurizer: bool = True, include_top: bool = True, input_tensor: Any = None
    ) -> None:
        """Add featurizer and classifier (top) to the default graph, with constant weights.

        input_tensor: images for the featurizer, or features for the classifier alone; None adds a placeholder.
        Raises InvalidInputError when nothing is included or the input does not fit.
        """
        if not include_featurizer and not include_top:
            raise InvalidInputError("import_graph_def: expected include_featurizer or include_top, got neither")
        found: dict[str, Any] = {}
        features = input_tensor
        if include_featurizer:
            images = self._images(input_tensor)
            features = self._featurize(images)
            found |= {"featurizer_input": images, "featurizer_output": features}
        if include_top:
            if features is None:
                features = tf.placeholder(tf.float32, [None, *self.output_dims()], name="InputFeatures")
            output = self._model.get_default_classifier(features)
            found |= {"classifier_input": features, "classifier_output": output}
        self._tensors = found

    def convert_featurizer(self, path: Path) -> None:
        """Write the featurizer alone, for the NPU, as a converted model."""
        with tf.Graph().as_default(), tf.Session() as session:
            images = self._images(None)
            features = self._model.import_graph_def(images, is_training=False)
            self._model.restore_weights(session)
            convert_frozen(from_session(session, images, features), path, name=self.model_ref(), require_fpga=True)

    def _images(self, tensor: Any) -> Any:
        shape = self._model.get_input_dims()
        if tensor is None:
            return tf.placeholder(tf.float32, shape, name=_INPUT)
        if tensor.dtype != tf.float32 or not tf.TensorShape(shape).is_compatible_with(tensor.shape):
            raise InvalidInputError(
                f"expected images float32 {shape}, got {tensor.dtype.name} {tensor.shape}. Prepare them with "
                "amlrealtimeai.resnet50.utils.preprocess_array"
            )
        return tensor

    def _featurize(self, images: Any) -> Any:
        with tf.Graph().as_default(), tf.Session() as session:
            inner = self._images(None)
            features = self._model.import_graph_def(inner, is_training=False)
            self._model.restore_weights(session)
            frozen = from_session(session, inner, features)
        (output,) = tf.import_graph_def(frozen.graph.as_graph_def(), {inner.name: images}, frozen.outputs, name="")
        return output

    def _tensor(self, name: str, option: str) -> Any:
        if name not in self._tensors:
            raise InvalidInputError(f"{name} is not in the graph: call import_graph_def({option}) first")
        return self._tensors[name]


class RemoteQuantizedResNet50(LocalQuantizedResNet50):
    """The same, with the featurizer in a service that is made on the first import, or that exists already.

    subscription_id, resource_group, model_management_account: as for DeploymentClient. remote_service_name: of a
    service that takes images and gives features; None makes one with a name of its own. cleanup_remote_service deletes
    a service that this object made.
    """

    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        model_management_account: str,
        model_base_path: str | os.PathLike[str],
        remote_service_name: str | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(model_base_path, weights=weights)
        self._deployment = DeploymentClient(subscription_id, resource_group, model_management_account)
        self._service_name = remote_service_name or f"featurizer-{uuid.uuid4().hex[:8]}"
        self._made: tuple[str, str] | None = None
        self._client: PredictionClient | None = None

    def cleanup_remote_service(self) -> None:
        """Delete the service that this object made, and its model; nothing where it made none."""
        if self._made is not None:
            service, model = self._made
            self._deployment.delete_service(service)
            self._deployment.delete_model(model)
            self._made = self._client = None

    def _featurize(self, images: Any) -> Any:
        self._connect()
        features = tf.numpy_function(self._ask, [images], tf.float32, name="resnet_v1_50/pool5")
        features.set_shape([None, *self.output_dims()])
        return features

    def _ask(self, images: np.ndarray) -> np.ndarray:
        if self._client is None:
            raise InvalidInputError("the featurizer's service was cleaned up: call import_graph_def again")
        answers = [self._client.score_numpy_array(image[np.newaxis]) for image in images]
        return np.stack(answers).astype(np.float32).reshape(-1, *self.output_dims())

    def _connect(self) -> None:
        service = self._deployment.get_service_by_name(self._service_name)
        if service is None:
            service = self._create()
        self._client = PredictionClient(
            service.ipAddress,
            service.port,
            service.sslEnabled,
            service.primaryKey or "",
            root_certificates=service.rootCertificates.encode() if service.rootCertificates else None,
        )

    def _create(self) -> Any:
        with self._deployment._workspace.store.blobs.temporary_folder() as folder:
            self.convert_featurizer(folder / "featurizer.zip")
            model = self._deployment.register_model(self._service_name, folder / "featurizer.zip")
        try:
            service = self._deployment.create_service(self._service_name, model)
        except BaseException:
            self._deployment.delete_model(model)
            raise
        self._made = (service.id, model)
        return service
