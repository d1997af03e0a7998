"""AccelOnnxConverter: from a registered SavedModel or ONNX model to a converted model, in the background."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amlrealtimeai.core.arguments import check_seconds, known_keywords
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.operation import Operation, Progress
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import ConversionError, InvalidInputError


class ConversionRequest:
    """A conversion that is under way."""

    def __init__(self, operation: "Operation[Model]", source: Model) -> None:
        self._operation = operation
        self._source = source

    @known_keywords
    def wait_for_completion(self, show_output: bool = False, timeout: float | None = None) -> bool:
        """Wait for the end, with a progress bar on request; returns whether it succeeded.

        timeout: seconds after which it is False while the conversion goes on; None waits for the end.
        """
        if not self._operation.wait_until_ended(show_output, check_seconds("timeout", timeout)):
            if show_output:
                print(f"The model {self._source.id!r} is still being converted after {timeout} s.")
            return False
        succeeded = self._operation.error is None
        if show_output and not succeeded:
            print(f"The model {self._source.id!r} was not converted: {self._operation.error}")
        return succeeded

    def get_status(self) -> str:
        """ "Running", "Succeeded" or "Failed"."""
        return self._operation.state

    @property
    def result(self) -> Model:
        """The converted model. Raises what went wrong, or ConversionError while it is still running."""
        if self._operation.error is not None:
            raise self._operation.error
        if self._operation.value is None:
            raise ConversionError("the conversion is still running. Call wait_for_completion() first.")
        return self._operation.value

    def __repr__(self) -> str:
        return f"ConversionRequest({self._source.id}, {self.get_status()})"


class AccelOnnxConverter:
    """Converts registered models of TensorFlow and ONNX."""

    @staticmethod
    @known_keywords
    def convert_tf_model(
        workspace: Workspace,
        source_model: Model | str,
        input_node: str | Sequence[str],
        outputs_nodes: str | Sequence[str],
        require_fpga_conversion: bool = True,
        number_format: str | None = None,
    ) -> ConversionRequest:
        """Convert a registered SavedModel folder; the result is registered as "<name>.<version>.accelonnx".

        source_model: a Model, its id "name:version", or its name for the latest version.
        outputs_nodes: a name, a comma-separated text, or a list. require_fpga_conversion=False lets a network that the
        NPU cannot run be served by the host. number_format (ours): name of an npu format, default the one of the graph.
        """
        source = _to_convert(workspace, source_model)
        if not source.is_folder:
            raise InvalidInputError(
                f"the model {source.id!r} is the file {source.filename!r}; expected a SavedModel folder. "
                "Register the folder: Model.register(workspace, model_path=folder, model_name=...). "
                "An ONNX file is converted by AccelOnnxConverter.convert_onnx_model(workspace, model)."
            )

        def convert(model: Path, path: Path, **options: Any) -> Any:
            from amlrealtimeai.convert import convert_saved_model

            return convert_saved_model(model, input_node, outputs_nodes, path, **options)

        return _request(workspace, source, convert, require_fpga_conversion, number_format)

    @staticmethod
    @known_keywords
    def convert_onnx_model(
        workspace: Workspace,
        source_model: Model | str,
        outputs_nodes: str | Sequence[str] | None = None,
        require_fpga_conversion: bool = True,
        number_format: str | None = None,
    ) -> ConversionRequest:
        """Convert a registered ONNX file, or a folder of one .onnx file and its external data (ours).

        Inputs and outputs keep their names. What the NPU cannot run is left to the host, and the model's description
        says what and why. outputs_nodes: names of values to end with instead of the model's outputs.
        require_fpga_conversion=False lets a model of which the NPU can run nothing be served by the host.
        number_format: name of an npu format, default "bw_cnn". Otherwise as convert_tf_model.
        """
        source = _to_convert(workspace, source_model)

        def convert(model: Path, path: Path, **options: Any) -> Any:
            from amlrealtimeai.convert import convert_onnx

            return convert_onnx(model, path, outputs_nodes=outputs_nodes, **options)

        return _request(workspace, source, convert, require_fpga_conversion, number_format)


def _to_convert(workspace: Workspace, model: Model | str) -> Model:
    """The registered model, which must not be a converted one."""
    found = Model.given(workspace, model)
    if found.is_converted:
        raise InvalidInputError(f"the model {found.id!r} is a converted one already. Deploy it as it is.")
    return found


def _request(
    workspace: Workspace, source: Model, convert: Callable[..., Any], require_fpga: bool, number_format: str | None
) -> ConversionRequest:
    """Begin `convert` and register what it writes."""

    def run(progress: Progress) -> Model:
        with workspace.store.blobs.temporary_folder() as folder:
            path = folder / f"{source.name}.accelonnx"
            report = convert(
                source.kept_path(),
                path,
                name=source.name,
                fmt=number_format,
                require_fpga=require_fpga,
                progress=progress,
            )
            return Model.register(
                workspace,
                path,
                f"{source.name}.{source.version}.accelonnx",
                description=str(report),
                model_framework="AccelOnnx",
                parent_id=source.id,
            )

    return ConversionRequest(Operation(f"convert {source.id}", run), source)
