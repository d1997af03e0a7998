"""What the networks are given of TensorFlow: a graph to add to, tensors, sessions. Words instead of raw errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow.compat.v1 as tf

from amlrealtimeai.errors import InvalidInputError, WeightsError


def check_graph(what: str) -> None:
    """InvalidInputError where TensorFlow runs eagerly, so that there is no graph to add to."""
    if tf.executing_eagerly():
        raise InvalidInputError(
            f"{what} adds operations to a graph, but TensorFlow runs eagerly here. Begin the program with 'import "
            "tensorflow.compat.v1 as tf; tf.disable_eager_execution()', or call it inside 'with "
            "tf.Graph().as_default():'"
        )


def check_tensor(what: str, value: Any) -> Any:
    """`value` if it is a tensor, else InvalidInputError."""
    if not tf.is_tensor(value):
        raise InvalidInputError(
            f"{what}: expected a tensor of the graph, such as tf.placeholder(...), got {type(value).__name__}. "
            "Arrays are fed when the session runs"
        )
    return value


def session_of(what: str, session: Any, graph: tf.Graph) -> Any:
    """`session`, or where it is None the default one; InvalidInputError for none, and for one of another graph."""
    found = session or tf.get_default_session()
    if found is None:
        raise InvalidInputError(f"{what} needs a session: pass one, or call it inside 'with session.as_default()'")
    if not hasattr(found, "run") or getattr(found, "graph", graph) is not graph:
        raise InvalidInputError(
            f"{what}: expected a session of the graph that import_graph_def has added to, got "
            f"{'one of another graph' if hasattr(found, 'run') else type(found).__name__}. Open it with "
            "tf.Session() inside the same 'with graph.as_default():'"
        )
    return found


@contextmanager
def session_errors() -> Iterator[None]:
    """Say in words that a session is closed, that variables have no values yet, or that a file cannot be written."""
    try:
        yield
    except tf.errors.FailedPreconditionError:
        raise InvalidInputError(
            "the weights have no values in this session: call restore_weights(session) first"
        ) from None
    except tf.errors.OpError as error:
        raise WeightsError(f"the weights were not written: {error.message.splitlines()[0]}") from None
    except OSError as error:
        raise WeightsError(f"the weights were not written: {error}. Choose a folder of your own") from None
    except RuntimeError as error:
        raise InvalidInputError(f"the session cannot be used: {error}") from None
