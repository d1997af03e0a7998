"""Whole images: the same bytes twice, valid by the specification, private, and nothing half-written."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from amlrealtimeai.containers import ImageInfo, build_image, dockerfile, verify_image
from amlrealtimeai.containers import base as base_layer
from amlrealtimeai.errors import ContainerError, InvalidInputError, NotFoundError, UnsupportedError

ROOT = Path(__file__).resolve().parents[2]
BUILD = (
    "import sys; from amlrealtimeai.containers import build_image; build_image(*sys.argv[1:3], name='tiny', tag='1')"
)


def read_blobs(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def document(blobs: dict[str, bytes], name: str) -> Any:
    return json.loads(blobs[name])


def test_second_build_takes_its_layers_from_the_cache(image: ImageInfo, tiny_model: Path, tmp_path: Path) -> None:
    again = build_image(tiny_model, tmp_path / "again.tar", name=image.name, tag="1")
    assert [layer.cached for layer in again.layers] == [True, True, True, False]
    assert again.path.read_bytes() == image.path.read_bytes()
    assert again.seconds < 10  # about 0.5 s on an idle machine


def test_a_killed_build_leaves_no_image_and_the_next_one_gives_the_same_bytes(
    tiny_model: Path, layer_cache: Path, image: ImageInfo, tmp_path: Path
) -> None:
    # A copy, so that nobody edits the sources between the two builds.
    copy, out, home = tmp_path / "copy", tmp_path / "out" / "x.tar", tmp_path / "home"
    shutil.copytree(ROOT / "amlrealtimeai", copy / "amlrealtimeai", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", BUILD, tiny_model, out]
    fresh = {**os.environ, "AMLREALTIMEAI_HOME": str(home), "PYTHONHASHSEED": "2", "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, cwd=copy, env=fresh)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size > 1e6 for part in home.rglob(".packages-*.part")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert len(list(out.parent.iterdir())) == 1
    subprocess.run(command, cwd=copy, env=fresh, check=True)
    assert [path.name for path in out.parent.iterdir()] == ["x.tar"]
    assert not list(home.rglob("*.part"))

    command[-1] = tmp_path / "from-cache.tar"
    cached = {**os.environ, "AMLREALTIMEAI_HOME": str(layer_cache), "PYTHONHASHSEED": "1"}
    subprocess.run(command, cwd=copy, env=cached, check=True)
    assert (tmp_path / "from-cache.tar").read_bytes() == out.read_bytes()


def test_every_descriptor_matches_its_blob(image: ImageInfo) -> None:
    blobs = read_blobs(image.path)
    assert document(blobs, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
    (entry,) = document(blobs, "index.json")["manifests"]
    assert entry["digest"] == image.digest
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    assert entry["annotations"]["io.containerd.image.name"] == f"docker.io/library/{image.name}:1"
    manifest = document(blobs, "blobs/" + entry["digest"].replace(":", "/"))
    config = document(blobs, "blobs/" + manifest["config"]["digest"].replace(":", "/"))
    (docker,) = document(blobs, "manifest.json")
    assert docker["RepoTags"] == [f"{image.name}:1"]
    for descriptor in (entry, manifest["config"], *manifest["layers"]):
        blob = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(blob) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(blob).hexdigest() == descriptor["digest"]
    layers = ["blobs/" + layer["digest"].replace(":", "/") for layer in manifest["layers"]]
    assert docker["Layers"] == layers
    diff_ids = ["sha256:" + hashlib.sha256(gzip.decompress(blobs[name])).hexdigest() for name in layers]
    assert config["rootfs"] == {"type": "layers", "diff_ids": diff_ids}
    assert len(blobs) == 3 + 2 + 4


def test_configuration_says_how_to_serve(image: ImageInfo, tiny_model: Path) -> None:
    config = verify_image(image.path).config["config"]
    assert config["Entrypoint"] == [
        "/usr/local/bin/python3", "-m", "amlrealtimeai.serving", "/model/tiny.accelonnx",
        "--name", image.name, "--host", "0.0.0.0", "--port", "50051",
    ]  # fmt: skip
    assert config["User"] == "10001:10001"
    assert config["ExposedPorts"] == {"50051/tcp": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"] == {
        "Test": ["CMD", "/usr/local/bin/python3", "-m", "amlrealtimeai.serving.health"],
        "Interval": 30_000_000_000,
        "StartPeriod": 10_000_000_000,
        "Timeout": 5_000_000_000,
    }
    assert "ORT_DISABLE_TELEMETRY=1" in config["Env"]
    assert config["Labels"]["amlrealtimeai.model.name"] == "tiny"
    digest = "sha256:" + hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert config["Labels"]["amlrealtimeai.model.digest"] == digest
    assert config["Labels"]["org.opencontainers.image.version"] == "1"


def test_image_holds_what_serving_needs_and_no_more(image: ImageInfo) -> None:
    names = set()
    for blob in read_blobs(image.path).values():
        if blob[:2] == b"\x1f\x8b":
            with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
                names |= set(tar.getnames())
    for needed in ("app/amlrealtimeai/artifact/converted.py", "model/tiny.accelonnx", "etc/passwd", "tmp"):
        assert needed in names
    assert any(re.fullmatch(r"app/packages/numpy-[\d.]+\.dist-info/METADATA", name) for name in names)
    unwanted = re.compile(r"tensorflow|/tests?/|\.pyi$|/tkinter|idlelib|/RECORD$|direct_url.json|packages/.*\.h$")
    assert not [name for name in names if unwanted.search(name)]
    rooms = {name.split("/")[2] for name in names if name.startswith("app/amlrealtimeai/")}
    assert not rooms & {"accel", "core", "lab", "convert", "containers", "targets"}
    assert image.size < 90e6


def test_image_says_nothing_about_this_machine(image: ImageInfo) -> None:
    private = {str(ROOT), sys.prefix, sys.base_prefix, str(image.path.parent)}
    # Published wheels name their own builder's /root.
    private |= {str(Path.home())} - {"/root", "/"}
    private = {path for path in private if not path.startswith("/usr")}
    for name, blob in read_blobs(image.path).items():
        data = gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob
        assert not [path for path in private if path.encode() in data], name


def test_skopeo_reads_both_formats(image: ImageInfo) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    for transport in (f"docker-archive:{image.path}", f"oci-archive:{image.path}:1"):
        shown = subprocess.run(["skopeo", "inspect", transport], capture_output=True, text=True, check=True).stdout
        inspected = json.loads(shown)
        assert inspected["Architecture"] in ("amd64", "arm64")
        assert len(inspected["Layers"]) == 4
        if transport.startswith("oci"):
            assert inspected["Digest"] == image.digest


def test_info_prints_size_time_and_digest(image: ImageInfo) -> None:
    pattern = rf"{image.name}:1  \d+\.\d MB in \d+\.\d s  sha256:[0-9a-f]{{64}}  \(4 layers, \d from the cache\)"
    assert re.fullmatch(pattern, str(image))


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("Tiny", "1", r"lower case.*got 'Tiny'; did you mean 'tiny'\?"),
        ("", "1", "expected an image name"),
        ("tiny:1", "1", "expected an image name"),
        ("-tiny", "1", "expected an image name"),
        ("tiny", "", "expected a tag"),
        ("tiny", "a b", "expected a tag"),
        ("tiny", "x" * 129, "expected a tag of at most 128"),
    ],
)
def test_bad_names_are_refused(name: str, tag: str, message: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build_image(tiny_model, tmp_path / "x.tar", name=name, tag=tag)
    assert not list(tmp_path.iterdir())


def test_names_with_a_registry_are_accepted(tiny_model: Path, tmp_path: Path) -> None:
    info = build_image(tiny_model, tmp_path / "x.tar", name="localhost:5000/team/tiny", tag="v1.0")
    image = verify_image(info.path)
    assert image.reference == "localhost:5000/team/tiny:v1.0"
    assert image.config["config"]["Entrypoint"][4:6] == ["--name", "tiny"]


def test_missing_foreign_and_damaged_models_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.tar"
    with pytest.raises(NotFoundError, match=r"no converted model .*nowhere\.accelonnx"):
        build_image(tmp_path / "nowhere.accelonnx", out, name="tiny", tag="1")
    data = tiny_model.read_bytes()
    middle = data.index(b"ReduceMean")
    cases = {
        "text": b"not a zip",
        "empty": b"",
        "cut": data[:-30],
        "altered": data[:middle] + b"reduceMean" + data[middle + 10 :],
    }
    for case, content in cases.items():
        (tmp_path / case).write_bytes(content)
        with pytest.raises(InvalidInputError, match=f"{case} is not a usable converted model"):
            build_image(tmp_path / case, out, name="tiny", tag="1")
    assert not out.exists()


def test_damaged_images_are_recognised(image: ImageInfo, tmp_path: Path) -> None:
    data = image.path.read_bytes()
    bad = tmp_path / "bad.tar"
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for content in (data[: len(data) // 2], bytes(flipped), b"", b"text" * 1000):
        bad.write_bytes(content)
        with pytest.raises(ContainerError, match="damaged or no container image"):
            verify_image(bad)
    with pytest.raises(NotFoundError, match="no image file"):
        verify_image(tmp_path / "absent.tar")


def test_damaged_cache_is_made_again(layer_cache: Path, tiny_model: Path, tmp_path: Path) -> None:
    before = build_image(tiny_model, tmp_path / "before.tar", name="tiny", tag="1")
    for blob in (layer_cache / "cache" / "layers").glob("app-*.tar.gz"):
        blob.write_bytes(blob.read_bytes()[:-1] + b"\xff")
    again = build_image(tiny_model, tmp_path / "again.tar", name="tiny", tag="1")
    assert again.digest == before.digest
    assert [layer.cached for layer in again.layers] == [True, True, False, False]


def test_full_disk_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20)); " + BUILD
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", limited, tiny_model, tmp_path / "out" / "x.tar"]
    environment = {**os.environ, "AMLREALTIMEAI_HOME": str(tmp_path / "fresh")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert "ContainerError: the image" in done.stderr
    assert "could not be written: File too large. It needs about" in done.stderr
    assert not list((tmp_path / "out").iterdir())
    layers = [path.name for path in (tmp_path / "fresh").rglob("*") if path.is_file()]
    assert not [name for name in layers if name.startswith(("base", "packages", "."))]


def test_other_systems_are_offered_a_dockerfile(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_layer.sys, "platform", "darwin")
    with pytest.raises(UnsupportedError, match=r"this one is darwin .*containers\.dockerfile"):
        build_image(tiny_model, tmp_path / "x.tar", name="tiny", tag="1")


def test_dockerfile_has_the_same_content(image: ImageInfo, tiny_model: Path, tmp_path: Path) -> None:
    path = dockerfile(tiny_model, tmp_path, name=image.name, tag="1")
    lines = path.read_text().splitlines()
    config = verify_image(image.path).config["config"]
    assert lines[-1] == "ENTRYPOINT " + json.dumps(config["Entrypoint"])
    assert "USER 10001:10001" in lines
    import numpy

    assert f"numpy=={numpy.__version__}" in path.read_text()
    assert (tmp_path / "model" / "tiny.accelonnx").read_bytes() == tiny_model.read_bytes()
    assert (tmp_path / "app" / "amlrealtimeai" / "artifact" / "converted.py").is_file()
    assert not list(tmp_path.rglob("*.pyc"))


def test_an_image_lists_what_is_in_it(image: ImageInfo, tiny_model: Path) -> None:
    document = json.loads(image.sbom)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == image.name
    found = {component["name"]: component for component in document["components"]}
    assert found["grpcio"]["purl"] == f"pkg:pypi/grpcio@{metadata.version('grpcio')}"
    assert found["numpy"]["licenses"] and found["amlrealtimeai"]["licenses"][0]["license"]["name"] == "MIT"
    assert found["tiny"]["type"] == "machine-learning-model"
    assert found["tiny"]["hashes"][0]["content"] == hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert "python" in found and any(name.startswith("libc.so") for name in found)
    assert "tensorflow" not in found and "/" not in "".join(found)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(image.sbom) is None
