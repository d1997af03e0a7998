"""`python -m amlrealtimeai score`: what a person sees of an answer."""

import json
import zipfile
from pathlib import Path

from amlrealtimeai.__main__ import main
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.serving.models import image_model

PICTURE = Path(__file__).parents[2] / "data" / "images" / "red_fox.jpg"


def model_of_two_outputs(folder: Path) -> ConvertedModel:
    with zipfile.ZipFile(image_model(folder / "one.accelonnx")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    definition = json.loads(members["service_def.json"])
    outputs = definition["signature"]["outputs"]
    outputs["again"] = outputs["output_alias"]
    with zipfile.ZipFile(folder / "two.accelonnx", "w") as archive:
        for name, data in {**members, "service_def.json": json.dumps(definition)}.items():
            archive.writestr(name, data)
    return ConvertedModel.load(folder / "two.accelonnx")


def test_every_output_of_a_service_is_printed(tmp_path: Path, capsys) -> None:
    with Server() as server:
        server.add_model("means", model_of_two_outputs(tmp_path))
        command = ["score", str(PICTURE), "--address", f"127.0.0.1:{server.port}", "--service", "means"]
        assert main(command) == 0
        *answers, times = capsys.readouterr().out.splitlines()
        assert len(answers) == 2 and answers[0] == answers[1] and answers[0].startswith("[")
        assert " ms (" in times
        assert main([*command, "--output", "again"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == answers[0]
