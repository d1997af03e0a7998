"""grpc.server's handlers over a Servicer: every method of PredictionService and ModelService."""

import math
import time
from collections.abc import Callable
from typing import Any

import grpc

from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.request.answers import Call
from amlrealtimeai.serving.request.servicer import Servicer, trailers

_METHODS = {
    protos.PREDICTION_SERVICE: ("Predict", "GetModelMetadata", "Classify", "Regress", "MultiInference"),
    protos.MODEL_SERVICE: ("GetModelStatus", "HandleReloadConfigRequest"),
}


def handlers(servicer: Servicer) -> list[grpc.GenericRpcHandler]:
    """Requests and answers pass as bytes, so that a request that does not parse gets our answer, too."""
    return [
        grpc.method_handlers_generic_handler(
            service, {method: grpc.unary_unary_rpc_method_handler(_handler(servicer, method)) for method in methods}
        )
        for service, methods in _METHODS.items()
    ]


def _handler(servicer: Servicer, method: str) -> Callable[[bytes, Any], bytes]:
    def handle(request: bytes, context: Any) -> bytes:
        counted = servicer.begin()
        left = context.time_remaining()
        deadline = None if left is None or math.isinf(left) else time.monotonic() + left
        call = Call(context.invocation_metadata(), deadline, servicer.limits.max_seconds)

        def end() -> None:
            call.cancelled = True  # or answered, when nobody asks any more
            servicer.end(counted)

        if not context.add_callback(end):
            end()
        answer, record = servicer.respond(method, request, call)
        context.set_trailing_metadata(trailers(record))
        if answer.data is None:
            context.abort(answer.code, answer.text)
        return answer.data or b""

    return handle
