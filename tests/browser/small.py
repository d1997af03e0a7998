"""What the lessons' widget cells need, made small; the notebook that the browser runs imports it."""

import gc
import tempfile
import threading
from pathlib import Path

import ipywidgets
import numpy as np
from matplotlib import pyplot
from onnx import TensorProto, helper

from amlrealtimeai import lab
from amlrealtimeai.accel.client import PredictionClient
from amlrealtimeai.artifact.converted import ConvertedModel, write_converted
from amlrealtimeai.artifact.definition import document
from amlrealtimeai.serving.server import Server
from tests.lab.detected import CAT, DOG, outputs
from tests.serving.models import graph

__all__ = ["answer", "client", "four_numbers", "kept", "lab", "picture", "program", "service"]

FOX, ZEBRA = 277, 340
FOLDER = Path(tempfile.mkdtemp())


def colour_classifier() -> ConvertedModel:
    """Red pictures are foxes, green ones zebras."""
    weights = np.zeros((3, 1000), np.float32)
    weights[0, FOX] = weights[1, ZEBRA] = 0.1
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"], axis=1),
    ]
    ends = {"x": (TensorProto.FLOAT, ["n", None, None, 3])}, {"y": (TensorProto.FLOAT, ["n", 1000])}
    stages = [
        {"type": "preprocess", "inputs": {"images": "i:0"}, "outputs": {"output": "x:0"}},
        {"type": "onnx", "inputs": {"x": "x:0"}, "outputs": {"y": "y:0"}, "file": "colour.onnx"},
    ]
    definition = document(
        "colour",
        {"images": {"tensor": "i:0", "dtype": "string", "shape": [None]}},
        {"output_alias": {"tensor": "y:0", "dtype": "float32", "shape": [None, 1000]}},
        [{"name": stage["type"], "parameters": {"order": "RGB"}, **stage} for stage in stages],
    )
    write_converted(FOLDER / "colour.accelonnx", definition, {"colour.onnx": graph(nodes, *ends, {"weights": weights})})
    return ConvertedModel.load(FOLDER / "colour.accelonnx")


server = Server().start()
server.add_model("colour", colour_classifier())
service = server.address
client = PredictionClient(service)

four_numbers = [6.5, 2.5, -1.5, 0.25]
picture = np.full((300, 300, 3), 128, np.uint8)
answer = outputs((CAT, 0.9, (0.3, 0.1, 0.9, 0.4)), (DOG, 0.37, (0.3, 0.6, 0.9, 0.9)))
program = lab.program_of(lab.deploy.small_network(FOLDER, seed=1))


def kept() -> str:
    """What the widgets hold in this process: of themselves, of threads, of figures."""
    gc.collect()
    widgets = ipywidgets.widgets.widget._instances
    return f"{len(widgets)} widgets, {threading.active_count()} threads, {len(pyplot.get_fignums())} figures"
