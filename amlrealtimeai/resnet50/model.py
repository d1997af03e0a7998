"""The first edition's ResNet-50: a frozen quantised graph in this process, or a featurizer in a service."""

import os
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.convert.quiet import tensorflow

tensorflow()  # before the modules below import it, so that its start-up lines stay away

import tensorflow.compat.v1 as tf  # noqa: E402

from amlrealtimeai.accel.models.base import QuantizedModel  # noqa: E402
from amlrealtimeai.accel.models.checks import check_graph, check_tensor  # noqa: E402
from amlrealtimeai.accel.models.frozen import import_frozen, write_featurizer  # noqa: E402
from amlrealtimeai.accel.models.resnet import RESNET50, featurizer  # noqa: E402
from amlrealtimeai.client import PredictionClient  # noqa: E402
from amlrealtimeai.deployment_client import DeploymentClient  # noqa: E402
from amlrealtimeai.errors import InvalidInputError  # noqa: E402
from amlrealtimeai.targets.base import STOPPED  # noqa: E402

_INPUT = "InputImage"


class _Bgr(QuantizedModel):
    """ResNet-50 for BGR images: weight files' first kernel as it is."""

    network = replace(RESNET50, featurizer=partial(featurizer, depth=50, bgr=False))


class LocalQuantizedResNet50:
    """ResNet-50 in block floating point, frozen: nothing to restore, nothing to train.

    model_base_path: as for accel.models.Resnet50. Images are BGR (resnet50.utils.preprocess_array). weights (ours): as
    for accel.models.Resnet50.

    Tensors of the latest import, None before: featurizer_input [n, 224, 224, 3], featurizer_output float32
    [n, 1, 1, 2048], classifier_input (a placeholder, or the featurizer's output), classifier_output [n, 1000].
    """

    def __init__(
        self, model_base_path: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None
    ) -> None:
        self._model = _Bgr(model_base_path, is_frozen=True, weights=weights)
        # of the latest import; None for what it did not include, and before
        self.featurizer_input: Any = None
        self.featurizer_output: Any = None
        self.classifier_input: Any = None
        self.classifier_output: Any = None

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
        return list(self._model.network.output_dims[0])

    def import_graph_def(
        self, include_featurizer: bool = True, include_top: bool = True, input_tensor: Any = None
    ) -> None:
        """Add featurizer and classifier (top) to the default graph, with constant weights.

        input_tensor: images for the featurizer (numbers of any type), or features for the classifier alone; None adds
        a placeholder.
        Raises InvalidInputError when nothing is included or the input does not fit.
        """
        if not include_featurizer and not include_top:
            raise InvalidInputError("import_graph_def: expected include_featurizer or include_top, got neither")
        check_graph("import_graph_def")
        images = features = output = None
        if include_featurizer:
            images = self._images(input_tensor)
            features = self._featurize(tf.cast(images, tf.float32))
        top = input_tensor if features is None else features
        if include_top:
            if top is None:
                top = tf.placeholder(tf.float32, [None, *self.output_dims()], name="InputFeatures")
            output = self._model.get_default_classifier(top)
        self.featurizer_input, self.featurizer_output = images, features
        self.classifier_input, self.classifier_output = top if include_top else None, output

    def convert_featurizer(self, path: Path) -> None:
        """Write the featurizer alone, for the NPU, as a converted model."""
        write_featurizer(self._model, path)

    def _images(self, tensor: Any) -> Any:
        shape = self._model.get_input_dims()
        if tensor is None:
            return tf.placeholder(tf.float32, shape, name=_INPUT)
        check_tensor("input_tensor", tensor)
        number = tensor.dtype.is_floating or tensor.dtype.is_integer
        if not number or not tf.TensorShape(shape).is_compatible_with(tensor.shape):
            raise InvalidInputError(
                f"expected images, numbers {shape}, got {tensor.dtype.name} {tensor.shape}. Prepare them with "
                "amlrealtimeai.resnet50.utils.preprocess_array"
            )
        return tensor

    def _featurize(self, images: Any) -> Any:
        return import_frozen(self._model, images)


class RemoteQuantizedResNet50(LocalQuantizedResNet50):
    """The same, with the featurizer in a service that is made on the first import, or that exists already.

    subscription_id, resource_group, model_management_account, service_principal_params: as for DeploymentClient.
    remote_service_name: of a service that takes images and gives features; None names one after the network and its
    weights. Objects with the same service name share the service.
    """

    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        model_management_account: str,
        model_base_path: str | os.PathLike[str],
        remote_service_name: str | None = None,
        service_principal_params: Any = None,
        *,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(model_base_path, weights=weights)
        self._deployment = DeploymentClient(
            subscription_id,
            resource_group,
            model_management_account,
            service_principal_params=service_principal_params,
        )
        source = f"{self.model_ref()}-{self.version}-{self._model.weights}"
        self._service_name = remote_service_name or f"featurizer-service-{zlib.crc32(source.encode()):08x}"
        self._client: PredictionClient | None = None

    def cleanup_remote_service(self) -> None:
        """Delete the service and its model; a service that no object of this class made stays, and so does none."""
        service = self._deployment.get_service_by_name(self._service_name)
        if service is not None and service.modelId.rpartition(":")[0] == self._service_name:
            self._deployment.delete_service(service.id)
            self._deployment.delete_model(service.modelId)
        self._client = None

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
        elif service.state == STOPPED:  # the process that made it has ended
            service = self._deployment.update_service(service.id, service.modelId)
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
            return self._deployment.create_service(self._service_name, model)
        except BaseException as error:
            self._deployment.delete_model(model)
            other = self._deployment.get_service_by_name(self._service_name)  # made by another object meanwhile
            if isinstance(error, InvalidInputError) and other is not None:
                return other
            raise
