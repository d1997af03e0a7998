"""The stages of a first-edition pipeline. Each gives the next one its only output."""

from pathlib import Path
from typing import Any

from amlrealtimeai.convert.convert import convert_frozen
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.convert.saved_model import from_session
from amlrealtimeai.convert.source import LoadedModel
from amlrealtimeai.core.arguments import check_name
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, UnsupportedError


class Stage:
    """One step of the pipeline, on the host. name: of its files in the saved definition; None for a number."""

    on_npu = False

    def __init__(self, name: str | None = None) -> None:
        if name is not None:
            check_name("stage name", name, r"[A-Za-z0-9._-]{1,100}", "letters, digits, '.', '_' and '-'")
        self.name = name

    def convert(self, path: Path) -> None:
        """Write this stage alone as a converted model, compared with TensorFlow. Raises ConversionError."""
        raise NotImplementedError


class TensorflowStage(Stage):
    """What leads from one tensor to another in a session's graph, run on the host.

    The session (None: the default one) has to hold the values of the variables in between. Conversion happens when
    the definition is saved.
    """

    def __init__(self, session: Any, input_tensor: Any, output_tensor: Any, name: str | None = None) -> None:
        super().__init__(name)
        self.session = _session(session)
        self.input_tensor = input_tensor
        self.output_tensor = output_tensor

    def convert(self, path: Path) -> None:
        """Write this stage alone as a converted model. Raises ConversionError naming what has no ONNX form."""
        frozen = from_session(self.session, self.input_tensor, self.output_tensor)
        convert_frozen(frozen, path, name="stage", on_npu=False)


def _session(session: Any) -> Any:
    """`session`, or where it is None the default one."""
    found = session or tensorflow().compat.v1.get_default_session()
    if not hasattr(found, "graph") or not hasattr(found, "run"):
        raise InvalidInputError(
            f"TensorflowStage: expected a session with the values of the variables, tf.Session(), got {session!r:.100}"
        )
    return found


class BrainWaveStage(Stage):
    """A featurizer on the NPU. model: a LocalQuantizedResNet50 or RemoteQuantizedResNet50."""

    on_npu = True

    def __init__(self, model: Any, name: str | None = None) -> None:
        super().__init__(name)
        if not hasattr(model, "convert_featurizer"):
            raise InvalidInputError(
                f"BrainWaveStage expects a model of amlrealtimeai.resnet50.model, got {type(model).__name__}. "
                "Models of amlrealtimeai.accel.models are converted by AccelOnnxConverter"
            )
        self.model = model

    def convert(self, path: Path) -> None:
        """Write this stage alone as a converted model."""
        self.model.convert_featurizer(path)


class KerasStage(Stage):
    """A Keras model (tf.keras under TF_USE_LEGACY_KERAS=1) with one input and one output, run on the host."""

    def __init__(self, model: Any, name: str | None = None) -> None:
        super().__init__(name)
        for side in ("inputs", "outputs"):
            count = len(getattr(model, side, None) or [])
            if count != 1:
                raise InvalidInputError(
                    f"KerasStage expects a built model with one input and one output, got {count} {side}. "
                    "Give a Sequential model its input_shape"
                )
        self.model = model

    def convert(self, path: Path) -> None:
        """Write this stage alone as a converted model. Raises UnsupportedError naming a layer that does not convert."""
        frozen = self._from_functions() if tensorflow().executing_eagerly() else self._from_session()
        try:
            convert_frozen(frozen, path, name="stage", on_npu=False)
        except AmlRealtimeAiError as error:
            raise UnsupportedError(f"the Keras model {self.model.name!r} does not convert: {error}") from error

    def _from_session(self) -> LoadedModel:
        """Of a model in a graph, whose values are in Keras' session."""
        session = tensorflow().compat.v1.keras.backend.get_session()
        return from_session(session, self.model.inputs[0], self.model.outputs[0])

    def _from_functions(self) -> LoadedModel:
        """Of a model outside of graphs. It is not copied: making a layer in a graph would invalidate it."""
        tf = tensorflow()
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        source = self.model.inputs[0]
        called = tf.function(lambda x: self.model(x, training=False))
        spec = tf.TensorSpec(source.shape, source.dtype, name="images")
        constant = convert_variables_to_constants_v2(called.get_concrete_function(spec))
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.import_graph_def(constant.graph.as_graph_def(), name="")
            return from_session(session, constant.inputs[0].name, constant.outputs[0].name)
