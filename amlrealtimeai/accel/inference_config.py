"""AccelInferenceConfig: how Model.deploy gets from a registered model to one that can be served."""

from amlrealtimeai.core.arguments import known_keywords
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import InvalidInputError


class AccelInferenceConfig:
    """input_tensor and output_tensor are needed for a SavedModel that is not converted yet; an ONNX model needs none.

    output_tensor: for an ONNX model, the value to end with instead of its outputs.
    """

    @known_keywords
    def __init__(
        self, description: str | None = None, input_tensor: str | None = None, output_tensor: str | None = None
    ) -> None:
        self.description = description
        self.input_tensor = input_tensor
        self.output_tensor = output_tensor

    def converted(self, workspace: Workspace, model: Model) -> Model:
        """`model` itself if it is a converted one, else its conversion (which takes a while)."""
        if model.is_converted:
            return model
        from amlrealtimeai.accel.converter import AccelOnnxConverter

        if _is_onnx(model):
            request = AccelOnnxConverter.convert_onnx_model(workspace, model, self.output_tensor)
        elif self.input_tensor is None or self.output_tensor is None:
            raise InvalidInputError(
                f"the model {model.id!r} has to be converted first. Name its tensors: "
                "AccelInferenceConfig(input_tensor='Placeholder:0', output_tensor='classifier/...:0')."
            )
        else:
            request = AccelOnnxConverter.convert_tf_model(workspace, model, self.input_tensor, self.output_tensor)
        request.wait_for_completion()
        return request.result


def _is_onnx(model: Model) -> bool:
    """Whether it is an ONNX file, or a folder that has one beside its external data."""
    if model.is_folder:
        from amlrealtimeai.convert.from_onnx import onnx_files

        return bool(onnx_files(model.kept_path())) and not any(model.kept_path().glob("saved_model.pb*"))
    return model.filename.lower().endswith(".onnx")
