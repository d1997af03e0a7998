"""azureml.accel's PredictionClient: inputs and outputs by name, several services behind one address."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.client import ServiceClient
from amlrealtimeai.client.arrays import array_of, as_batch, names_of, read_file, tensor_of, without_batch
from amlrealtimeai.errors import DeploymentError, InvalidInputError

Answer = np.ndarray | list[np.ndarray]


class PredictionClient(ServiceClient):
    """Scores files, arrays and tensors on a service.

    address           name or IP address, perhaps with its port ("host:50051", "http://host:50051/")
    port              default that of the address, else 80, with use_ssl 443
    service_name      which service of the address; needed where it has several
    root_certificates PEM bytes, or the path of a PEM file, that the server's certificate is checked against

    Inputs and outputs are called by their alias or by their TensorFlow tensor name. `outputs`: a name gives one array,
    a list of names a list of arrays in that order; None gives the only output as one array, or all of several as a
    list in the order of their names. Arrays are whole batches, except the only one that
    score_file answers with.
    """

    def score_file(
        self,
        path: str | Path,
        input_name: str = "images",
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = 10.0,
    ) -> Any:
        """Send the bytes of one file, for example an image. A missing file is a FileNotFoundError before any network.

        One array comes without its batch dimension, arrays in a list keep it.
        """
        names_of([input_name], ())
        answer = self._score({input_name: as_batch(read_file(path))}, outputs, timeout)
        return answer if isinstance(answer, list) else without_batch(answer)

    def score_numpy_arrays(
        self,
        input_map: Mapping[str, np.ndarray],
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = 30.0,
    ) -> Any:
        """Send arrays by input name, each with its batch dimension, which the answer keeps."""
        return self._score({name: array_of(array) for name, array in _items(input_map)}, outputs, timeout)

    def score_tensors(
        self,
        input_map: Mapping[str, tuple[Any, Sequence[int], Any]],
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = 10.0,
    ) -> Any:
        """Send tensors by input name, each (content, shape, TensorFlow data type). The answer keeps its batch."""
        for name, tensor in _items(input_map):
            if not isinstance(tensor, tuple | list) or len(tensor) != 3:
                raise InvalidInputError(
                    f"input {name!r}: expected (content, shape, TensorFlow data type), got {type(tensor).__name__}"
                )
        return self._score({name: tensor_of(*tensor) for name, tensor in _items(input_map)}, outputs, timeout)

    def _score(
        self, inputs: Mapping[str, np.ndarray], outputs: str | Sequence[str] | None, timeout: float | None
    ) -> Answer:
        wanted = [name for name in names_of(inputs, () if outputs is None else outputs) if name]
        answer = self.predict(inputs, wanted, timeout)
        arrays = [answer[name] for name in wanted or sorted(answer)]
        single = len(arrays) == 1 and (outputs is None or isinstance(outputs, str))
        return arrays[0] if single else arrays


def client_from_service(service: Any) -> PredictionClient:
    """A client for a deployed web service: address, TLS and key are taken from it.

    Raises DeploymentError for a service that has no scoring_uri yet.
    """
    if not hasattr(type(service), "scoring_uri") and not hasattr(service, "scoring_uri"):
        raise InvalidInputError(
            f"expected a deployed service, such as Webservice(workspace, 'my-service'), got {service!r:.200}"
        )
    uri = service.scoring_uri
    if not uri:
        raise DeploymentError(
            f"the service {service.name!r} has no address yet; call wait_for_deployment(show_output=True) first"
        )
    keys = service.get_keys() if service.auth_enabled else ()
    return PredictionClient(
        address=uri,
        use_ssl=bool(getattr(service, "ssl_enabled", False)),
        access_token=_first_key(keys),
        service_name=service.name,
        root_certificates=getattr(service, "root_certificates", None),
    )


def _items(input_map: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if not isinstance(input_map, Mapping) or not input_map:
        got = "an empty one" if isinstance(input_map, Mapping) else type(input_map).__name__
        raise InvalidInputError(f"expected a dictionary of input name to value, got {got}")
    return list(input_map.items())


def _first_key(keys: Any) -> str:
    """get_keys() gives (primary, secondary); the first edition's a dictionary."""
    values = list(keys.values() if isinstance(keys, Mapping) else keys or ())
    return next((key for key in values if key), "")
