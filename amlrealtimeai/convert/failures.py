"""What other people's packages raise in a conversion becomes an error of ours."""

import contextlib
from collections.abc import Callable, Iterator

from amlrealtimeai.errors import AmlRealtimeAiError, ConversionError


@contextlib.contextmanager
def own_errors(step: Callable[[], str]) -> Iterator[None]:
    """Raise ConversionError in the place of what TensorFlow, tf2onnx, onnx and ONNX Runtime raise; `step` says where.

    Their error is its __cause__. Ours, and those of memory and disk, pass.
    """
    try:
        yield
    except (AmlRealtimeAiError, MemoryError, OSError):
        raise
    except Exception as error:
        source = type(error).__module__.split(".")[0].removesuffix("s").replace("builtin", "a library")
        reason = one_line(error) or "no reason given"
        raise ConversionError(
            f"the conversion stopped at the step {step()!r} with {type(error).__name__} of {source}: {reason}. "
            "Expected a model that runs for inference and that ONNX can say. If an op is named here, "
            "write that layer with simpler ops, or end the model before it with another name in outputs_nodes"
        ) from error


def one_line(said: object) -> str:
    """What another package says, on one line of at most 400 characters."""
    return " ".join(str(said).split())[:400]
