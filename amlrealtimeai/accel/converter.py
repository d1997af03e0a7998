"""AccelOnnxConverter: from a registered SavedModel to a converted model, in the background."""

from collections.abc import Sequence

from amlrealtimeai.core.arguments import known_keywords
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
        if not self._operation.wait_until_ended(show_output, timeout):
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
    """Converts registered TensorFlow models."""

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
        if isinstance(source_model, str):
            which = {"id" if ":" in source_model else "name": source_model}
            source_model = Model(workspace, **which)  # type: ignore[arg-type]
        if source_model.is_converted:
            raise InvalidInputError(f"the model {source_model.id!r} is a converted one already. Deploy it as it is.")
        if not source_model.is_folder:
            raise InvalidInputError(
                f"the model {source_model.id!r} is the file {source_model.filename!r}; expected a SavedModel folder. "
                "Register the folder: Model.register(workspace, model_path=folder, model_name=...)."
            )

        def convert(progress: Progress) -> Model:
            from amlrealtimeai.convert import convert_saved_model

            with workspace.store.blobs.temporary_folder() as folder:
                path = folder / f"{source_model.name}.accelonnx"
                report = convert_saved_model(
                    source_model.kept_path(),
                    input_node,
                    outputs_nodes,
                    path,
                    name=source_model.name,
                    fmt=number_format,
                    require_fpga=require_fpga_conversion,
                    progress=progress,
                )
                return Model.register(
                    workspace,
                    path,
                    f"{source_model.name}.{source_model.version}.accelonnx",
                    description=str(report),
                    model_framework="AccelOnnx",
                    parent_id=source_model.id,
                )

        return ConversionRequest(Operation(f"convert {source_model.id}", convert), source_model)
