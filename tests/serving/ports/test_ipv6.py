"""A service on IPv6: all three ports, with TLS and a key, under every way to write its address."""

import http.client
import json
import socket
import ssl
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import PredictionClient as FirstClient
from amlrealtimeai.__main__ import main
from amlrealtimeai.accel import PredictionClient
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving.server import Server
from tests.serving.certificates import Authority
from tests.serving.models import many_output_model
from tests.serving.processes import service

KEY = "the-key-of-this-service"
PAIR = np.array([[1, 2]], np.float32)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this computer has no IPv6")


@pytest.mark.parametrize("host", ["::1", "::"])
def test_all_ports_with_tls_and_a_key(host: str, tmp_path: Path) -> None:
    authority = Authority()
    tls = authority.issue("localhost", "::1")
    for name, data in (("cert", tls.certificate), ("key", tls.key), ("keys", KEY.encode())):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    files = ("--ssl-cert", tmp_path / "cert", "--ssl-key", tmp_path / "key", "--key-file", tmp_path / "keys")
    ports = ("--port", 0, "--rest-port", 0, "--admin-port", 0, "--port-file", tmp_path / "port")
    model = many_output_model(tmp_path / "heads.accelonnx")
    with service(model, *files, *ports, "--host", host, "--admin-host", "::1") as running:
        assert running.line == f"ready on [{host}]:{running.port}"
        _, *others = (tmp_path / "port").read_text().split()
        rest, admin = (int(line.partition("=")[2]) for line in others)

        for address, port in (("::1", running.port), ("[::1]", running.port), (f"https://[::1]:{running.port}/", None)):
            with PredictionClient(
                address, port, use_ssl=True, access_token=KEY, root_certificates=authority.pem
            ) as client:
                found = client.score_numpy_arrays({"x:0": PAIR}, outputs=["head1:0"])
                np.testing.assert_array_equal(found[0], PAIR + 1)
        with FirstClient("::1", running.port, True, KEY, root_certificates=authority.pem) as client:
            assert client.target == f"[::1]:{running.port}"
            assert len(client.predict({"x": PAIR})) == 12

        context = ssl.create_default_context(cadata=authority.pem.decode())
        connection = http.client.HTTPSConnection("::1", rest, timeout=20, context=context)
        body = json.dumps({"instances": PAIR.tolist()})
        connection.request("POST", "/v1/models/heads:predict", body, {"Authorization": f"Bearer {KEY}"})
        assert json.loads(connection.getresponse().read())["predictions"][0]["head1:0"] == [2.0, 3.0]
        connection.close()
        for path in ("/livez", "/readyz", "/metrics"):
            probe = http.client.HTTPConnection("::1", admin, timeout=20)
            probe.request("GET", path)
            assert probe.getresponse().status == 200
            probe.close()
        assert running.terminate()[0] == 0


def test_a_taken_port_and_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server("::1") as server:
        server.add_model("heads", ConvertedModel.load(many_output_model(tmp_path / "heads.accelonnx")))
        assert server.address == f"[::1]:{server.port}"
        with pytest.raises(
            DeploymentError, match=rf"cannot serve on \[::1\]:{server.port}: port {server.port} is taken"
        ):
            Server("::1", server.port).start()
        with pytest.raises(DeploymentError, match=rf"cannot serve on \[::1\]:{server.port}"):
            Server("::1", rest_port=server.port).start()
        picture = Path(__file__).parents[3] / "data" / "images" / "red_fox.jpg"
        assert main(["score", str(picture), "--address", f"[::1]:{server.port}"]) == 1
        assert "images" in capsys.readouterr().err, "it was reached, and has no such input"
