"""Built images by runc alone: they answer, are locked down and kept running, and leave nothing behind."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from amlrealtimeai.containers import ImageInfo, Mount, SecretFolder, find_engine, run
from amlrealtimeai.containers.archive import write_image
from amlrealtimeai.containers.layer import Packed
from amlrealtimeai.containers.runc import supervise
from amlrealtimeai.errors import ContainerError
from tests.containers.test_engine import NOBODY
from tests.containers.test_run import COLOUR, EXPECTED, predict
from tests.serving.processes import eventually

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(not shutil.which("runc") or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="as root"),
]


@pytest.fixture(autouse=True, scope="module")
def nothing_left(image: ImageInfo, layer_cache: Path) -> Iterator[None]:
    yield
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMLREALTIMEAI_HOME", str(layer_cache))
        engine = find_engine("runc")
        assert engine.call("ps", "--all") == ""
        engine.succeeds("image", "rm", image.id)
        assert not engine.succeeds("image", "inspect", image.id)
    kept = layer_cache / "runc"
    assert [*kept.glob("images/*"), *kept.glob("containers/*"), *kept.glob("state/*")] == []


def test_it_answers_locked_down_and_sees_its_mounts(image: ImageInfo, tmp_path: Path) -> None:
    folder = tmp_path / "a folder, with a comma"
    folder.mkdir()
    (folder / "note.txt").write_text("seen")
    secrets = SecretFolder(tmp_path / "secrets")
    secrets.write({"keys": "a-key\n"})
    limits = {"cpus": 1, "memory": "512m"}
    with run(image, engine="runc", mounts=[Mount(folder, "/data")], secrets=secrets, **limits) as service:  # type: ignore[arg-type]
        assert predict(service.address, COLOUR) == EXPECTED
        assert f"ready on {service.address}" in service.logs() and service.logs(tail=0) == ""
        pid = int(service.engine.call("inspect", "--format", "{{.State.Pid}}", service.id))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["Uid"].split() == ["10001"] * 4 and status["NoNewPrivs"].strip() == "1"
        assert {status[kind].strip() for kind in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        python = ["exec", service.id, "/usr/local/bin/python3", "-c"]
        assert service.engine.call(*python, "print(open('/data/note.txt').read(), end='')") == "seen"
        assert service.engine.call(*python, "print(open('/run/secrets/keys').read())") == "a-key"
        for place in ("/data/more.txt", "/app/more.txt", "/run/secrets/more"):
            with pytest.raises(ContainerError, match="Read-only file system"):
                service.engine.call(*python, f"open({place!r}, 'w')")
        shown = json.loads(service.engine.call("inspect", service.name))[0]
        assert shown["HostConfig"]["Memory"] == 512 << 20 and "a-key" not in str(shown)
    assert not service.is_running and service.logs() == "" and not Path(f"/proc/{pid}").exists()
    secrets.remove()


def test_it_is_started_again_until_it_is_stopped(image: ImageInfo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = run(image, engine="runc", restart=True, port=port)
    pid = int(service.engine.call("inspect", "--format", "{{.State.Pid}}", service.id))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.engine.has_died(service.id))
    eventually(lambda: service.is_running)
    assert service.engine.exit_code(service.id) == 137
    eventually(lambda: predict(service.address, COLOUR) == EXPECTED)
    service.engine.call("stop", "--time", "10", service.id)
    assert service.engine.exit_code(service.id) == 0, "it ended by itself, and stays so"
    assert not service.is_running and service.logs().count("ready on ") == 2
    service.stop()


@pytest.mark.parametrize("restart", [False, True])
def test_what_does_not_start_says_why_and_is_gone(image: ImageInfo, restart: bool) -> None:
    with pytest.raises(ContainerError, match=r"exit code 2. Its log:\n(.|\n)*unrecognized arguments: --nonsense"):
        run(image, engine="runc", arguments=["--nonsense"], restart=restart)
    with pytest.raises(ContainerError, match=r"^runc run failed: Error: .*memory limit"):
        run(image, engine="runc", memory="1m", restart=restart)
    with pytest.raises(ContainerError, match="no network of its own to publish a port from; use the network 'host'"):
        run(image, engine="runc", network="bridge")
    with pytest.raises(ContainerError, match="ask for read_only=True"):
        run(image, engine="runc", read_only=False)


def test_a_container_whose_supervisor_was_killed_is_removed(image: ImageInfo) -> None:
    with run(image, engine="runc", restart=True) as service:
        command = f"amlrealtimeai.containers.runc\0supervise\0{service.id}".encode()
        (supervisor,) = [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if command in path.read_bytes()
        ]
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{supervisor}/exe").exists())
        pid = int(service.engine.call("inspect", "--format", "{{.State.Pid}}", service.id))
    assert not Path(f"/proc/{pid}").exists()
    with socket.create_server(("127.0.0.1", service.port)):
        pass


ROOTLESS = """
import os, sys
from amlrealtimeai.containers import run
with run(sys.argv[1], engine="runc", restart=True) as service:
    pid = service.engine.call("inspect", "--format", "{{.State.Pid}}", service.id)
    print(service.address, os.stat(f"/proc/{pid}").st_uid, flush=True)
    sys.stdin.read()
"""
PYTHON = "/usr/bin/python3"  # of everybody; the one that runs the tests may be in root's home


def same_python() -> bool:
    code = "import sys; print(sys.version_info[:2])"
    with contextlib.suppress(OSError):
        return (
            subprocess.run([PYTHON, "-c", code], capture_output=True, text=True).stdout == f"{sys.version_info[:2]}\n"
        )
    return False


@pytest.mark.skipif(not same_python(), reason=f"{PYTHON} is of another version")
def test_without_roots_rights(image: ImageInfo) -> None:
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(image.path, f"{place}/image.tar")
        for path in (place, f"{place}/image.tar"):
            os.chown(path, NOBODY, NOBODY)
        paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
        environment = {"HOME": place, "XDG_RUNTIME_DIR": place, "PYTHONPATH": paths, "PATH": os.environ["PATH"]}
        child = subprocess.Popen(
            [PYTHON, "-c", ROOTLESS, f"{place}/image.tar"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        try:
            assert child.stdout is not None
            address, user = child.stdout.readline().split() or [child.communicate()[1], ""]
            assert user == str(NOBODY), address
            assert predict(address, COLOUR) == EXPECTED
        finally:
            _, errors = child.communicate()
        assert child.returncode == 0 and "runs without limits of memory" in errors
        assert list(Path(place).glob(".local/share/amlrealtimeai/runc/containers/*")) == []


def hostile(path: Path, name: str, kind: bytes, target: str = "") -> Path:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w:gz") as tar:
        member = tarfile.TarInfo("out")
        member.type, member.linkname = tarfile.SYMTYPE, "/tmp"
        tar.addfile(member)
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    packed = Packed(digest, digest, len(layer.getvalue()), 0)
    layer.seek(0)
    with path.open("wb") as file:
        write_image(file, "hostile:1", {"config": {}}, [(packed, layer)])
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../escaped", tarfile.REGTYPE),
        ("/tmp/../../escaped", tarfile.REGTYPE),
        ("out/escaped", tarfile.REGTYPE),
        ("device", tarfile.CHRTYPE),
        ("pipe", tarfile.FIFOTYPE),
        (".wh.gone", tarfile.REGTYPE),
    ],
)
def test_images_that_reach_out_of_their_root_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    path = hostile(tmp_path / "image.tar", name, kind)
    with pytest.raises(ContainerError, match="runc load failed: Error: the image has"):
        find_engine("runc").load(path)
    assert not Path("/tmp/escaped").exists() and not Path("/escaped").exists()


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_LARGEST_LOG", 1000)
    lines = b"".join(b"%04d\n" % number for number in range(5000))
    supervise._write_log(io.BytesIO(lines), tmp_path / "log")
    kept = (tmp_path / "log.1").read_bytes() + (tmp_path / "log").read_bytes()
    assert lines.endswith(kept) and 1000 < len(kept) < 2100
