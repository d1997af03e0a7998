"""A certificate out of its time is named as that, not as one of an unknown CA."""

import datetime

import numpy as np
import pytest

from amlrealtimeai import PredictionClient
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.errors import DeploymentError, InvalidInputError
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.server import Server


@pytest.mark.parametrize(("from_today", "said"), [(-40, "has expired; it has to be replaced"), (2, "not valid yet")])
def test_a_certificate_out_of_its_time(from_today, said):
    start = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=from_today)
    made = development_certificate(["localhost"], days=30, start=start)
    with (
        Server(tls=Tls(made.certificate.encode(), made.key.encode())) as server,
        PredictionClient("localhost", server.port, True, root_certificates=made.ca.encode()) as client,
        pytest.raises(DeploymentError, match=said),
    ):
        client.score_numpy_array(np.zeros((1, 1), np.float32))


def test_a_start_needs_its_time_zone():
    with pytest.raises(InvalidInputError, match="with its zone"):
        development_certificate(["localhost"], start=datetime.datetime(2026, 1, 1))
