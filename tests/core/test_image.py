import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest

from amlrealtimeai.accel import AccelContainerImage
from amlrealtimeai.containers import verify_image
from amlrealtimeai.core import ContainerImage, Image, Model, Workspace
from amlrealtimeai.errors import ContainerError, InUseError, InvalidInputError, NotFoundError, UnsupportedError
from tests.core.conftest import MEANS

CONFIGURATION = AccelContainerImage.image_configuration()


def test_a_built_image(image: Image, tmp_path: Path) -> None:
    shared = image.workspace
    assert (image.name, image.version, image.id, image.creation_state) == ("means", 1, "means:1", "Succeeded")
    assert (image.tags, image.description, image.image_flavor) == ({"lesson": "3"}, "channel means", "accel")
    assert [model.id for model in image.models] == ["means:1"]
    found = Image(shared, "means")
    assert type(found) is AccelContainerImage and found.image_location == image.image_location
    assert (
        found.image_location is not None
        and image.digest == found.digest == verify_image(Path(found.image_location)).digest
    )
    assert found.size == Path(found.image_location).stat().st_size > 1_000_000
    copy = Path(found.export(tmp_path / "means.tar"))
    with tarfile.open(copy) as archive:
        assert "oci-layout" in archive.getnames()
    log = Path(url2pathname(urlsplit(found.image_build_log_uri).path)).read_text()
    assert "building means:1 with the model means:1" in log and str(image.digest) in log
    assert [one.id for one in Image.list(shared, image_name="means", tags=["lesson"])] == ["means:1"]
    assert Image.list(shared, model_id="means:2") == [] and list(shared.images) == ["means"]
    assert found.serialize()["digest"] == image.digest
    assert repr(found).startswith(
        "AccelContainerImage(workspace=shared, name=means, version=1, id=means:1, state=Succee"
    )
    with pytest.raises(InUseError, match="model 'means:1' is used by the image 'means:1'"):
        image.models[0].delete()


def test_the_next_version_and_its_end(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    shared = image.workspace
    second = Image.create("means", image.models, CONFIGURATION, shared)
    assert (second.id, second.creation_state) == ("means:2", "Running")
    assert second.image_location is None and second.size == 0
    assert [one.id for one in Image.list(shared)] == ["means:1"]
    second.wait_for_creation(show_output=True)
    assert 'Image creation operation finished for image means:2, operation "Succeeded"' in capsys.readouterr().out
    assert [one.id for one in Image.list(shared)] == ["means:2", "means:1"]
    location = Path(str(second.image_location))
    second.delete()
    assert not location.exists() and [one.id for one in Image.list(shared)] == ["means:1"]


def test_only_one_converted_model_and_a_lower_case_name(workspace: Workspace, model: Model) -> None:
    plain = Model.register(workspace, __file__, "plain")
    refused = [
        ("Means", [model], r"expected an image name in lower case.*got 'Means'; did you mean 'means'\?"),
        ("a/b", [model], "expected a text without '/', got 'a/b'"),
        ("means", [], "expected one model for an image, got 0"),
        ("means", [model, model], "expected one model for an image, got 2"),
        ("means", [plain], r"'plain:1' is not a converted one. Convert it first: AccelOnnxConverter.convert_tf_model"),
    ]
    for name, models, message in refused:
        with pytest.raises(InvalidInputError, match=message):
            Image.create(name, models, CONFIGURATION, workspace)
    with pytest.raises(UnsupportedError, match=r"Use AccelContainerImage.image_configuration\(\)"):
        ContainerImage.image_configuration(execution_script="score.py")
    with pytest.raises(NotFoundError, match=r"no image 'means' .*its images are: none. Create one: Image.create"):
        Image(workspace, "means")


def test_a_failed_build_says_why_and_is_not_listed(workspace: Workspace, tmp_path: Path, model: Model) -> None:
    broken = bytearray(Path(model.download(tmp_path)).read_bytes())
    broken[broken.index(b"ReduceMean")] ^= 1
    (tmp_path / "broken.accelonnx").write_bytes(broken)
    bad = Model.register(workspace, tmp_path / "broken.accelonnx", "broken")
    image = Image.create("broken", bad, CONFIGURATION, workspace)
    with pytest.raises(
        ContainerError, match=r"image 'broken:1' could not be built: .*The log: .*image-broken-1.log"
    ) as caught:
        image.wait_for_creation()
    assert image.creation_state == "Failed" and Image.list(workspace) == []
    assert "Traceback" in Path(str(caught.value).rpartition("The log: ")[2]).read_text()
    assert list(workspace.store.blobs.temporary.iterdir()) == []


@pytest.mark.container
def test_an_image_runs_here(image: Image, picture: Path) -> None:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed: apt install podman runc")
    assert isinstance(image, AccelContainerImage)
    np.testing.assert_allclose(image.run(picture), MEANS, atol=1e-3)
    np.testing.assert_allclose(image.run(picture.read_bytes()), MEANS, atol=1e-3)
    with image.run() as running:
        assert running.is_running


KILLED = """
import sys, time, threading
from amlrealtimeai.accel import AccelContainerImage
from amlrealtimeai.core import Image, Model, Workspace
workspace = Workspace.get(sys.argv[1])
image = Image.create("means", [Model(workspace, "means")], AccelContainerImage.image_configuration(), workspace)
print("building", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_build_that_was_killed_leaves_nothing(workspace: Workspace, model: Model, image: Image) -> None:
    for delay in (0.0, 0.15, 0.5):
        process = subprocess.Popen([sys.executable, "-c", KILLED, workspace.name], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "building\n"
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        for listed in Image.list(workspace):
            workspace.store.blobs.verify(Path(str(listed.image_location)).name)
    reopened = Workspace.get(workspace.name)
    assert list(reopened.store.blobs.temporary.iterdir()) == []
    assert Image.create("means", [model], CONFIGURATION, reopened).version == 4
