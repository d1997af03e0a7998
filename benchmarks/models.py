"""Every network of accel.models from graph to score: time and memory of each step, and whether the emulator agrees.

    python -m benchmarks.models [--networks resnet50 ...] [--formats bw_cnn msfp12] [--images 32]

Each network runs in a process of its own. Steps: build the quantised graph, restore its weights, save the SavedModel,
convert it, load the converted model, score one JPEG (median of ten), and the most memory that the process ever took.
Agreement: the emulator's features and answers beside TensorFlow's quantised graph, on pictures made of emoji. Feature
error is the greatest difference over the greatest value of TensorFlow's; for SSD-VGG the worst of its twelve outputs,
and "top-1" is the class of every anchor.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from benchmarks import measuring

CLASSES = {
    "resnet50": "QuantizedResnet50",
    "resnet152": "QuantizedResnet152",
    "densenet121": "QuantizedDensenet121",
    "vgg16": "QuantizedVgg16",
    "ssdvgg": "QuantizedSsdVgg",
}
STEPS = ("graph", "restore", "save", "convert", "load", "score")
_HEADINGS = ["network", "format", *(f"{step} s" for step in STEPS), "peak MiB", "feature error", "top-1 agrees"]
_BATCH = 4


def main() -> None:
    chosen = _parser().parse_args()
    if chosen.child:
        print(json.dumps(measure(*chosen.child, chosen.images)))
        return
    print(f"{measuring.machine()}\n")
    rows = []
    for network in chosen.networks:
        for fmt in chosen.formats:
            found = _in_a_process(network, fmt, chosen.images)
            seconds = [f"{found[step]:.2f}" for step in STEPS]
            agreement = [f"{found['error']:.1e}", f"{100 * found['agreement']:.2f} %"]
            rows.append([f"{network} ({found['weights']})", fmt, *seconds, f"{found['peak']:.0f}", *agreement])
            print(f"{network} {fmt}: done", file=sys.stderr, flush=True)
    print(measuring.table(_HEADINGS, rows))


def _in_a_process(network: str, fmt: str, images: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.models", "--child", network, fmt, "--images", str(images)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{network} in {fmt} failed; its message is above")
    return json.loads(result.stdout.splitlines()[-1])


def measure(network: str, fmt: str, images: int) -> dict[str, Any]:
    """All steps of one network in this process."""
    import tensorflow.compat.v1 as tf

    from amlrealtimeai.accel import models
    from amlrealtimeai.artifact.converted import ConvertedModel
    from amlrealtimeai.convert import convert_saved_model

    found: dict[str, Any] = {}

    def timed(step: str, function: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = function()
        found[step] = time.perf_counter() - begin
        return result

    with tempfile.TemporaryDirectory() as name, tf.Graph().as_default(), tf.Session() as session:
        model = getattr(models, CLASSES[network])(name, number_format=fmt)
        found["weights"] = model.weights
        inputs, outputs = timed("graph", lambda: _graph(model))
        timed("restore", lambda: model.restore_weights(session))
        saved, converted = f"{name}/saved", f"{name}/{network}.accelonnx"
        aliases = {tensor.name: tensor for tensor in outputs}
        timed("save", lambda: tf.saved_model.simple_save(session, saved, {"images": inputs}, aliases))
        timed("convert", lambda: convert_saved_model(saved, inputs.name, list(aliases), converted, name=network))
        loaded = timed("load", lambda: ConvertedModel.load(converted))
        pictures = _pictures(images)
        request = {"images": np.array(pictures[:1], dtype=object)}
        loaded.predict(request)
        found["score"] = float(np.median([_seconds(lambda: loaded.predict(request)) for _ in range(10)]))
        found |= _compare(session, loaded, inputs, list(aliases), model.output_tensor_list, pictures)
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _graph(model: Any) -> tuple[Any, list[Any]]:
    """Encoded images to the classifier's answer and the features, or to the twelve outputs."""
    import tensorflow.compat.v1 as tf

    from amlrealtimeai.accel.models import utils

    size = model.get_input_dims()[1]
    inputs = tf.placeholder(tf.string, [None])
    scale = 0.017 if model.model_ref == "densenet121" else 1.0
    pixels = utils.preprocess_array(
        inputs, output_height=size, output_width=size, scaling_factor=scale, preserve_aspect_ratio=size <= 256
    )
    features = model.import_graph_def(pixels, is_training=False)
    if isinstance(features, list):
        return inputs, features
    return inputs, [model.get_default_classifier(features), features]


def _pictures(count: int) -> list[bytes]:
    from amlrealtimeai.lab import images

    return [images.jpeg_bytes(picture) for picture, _ in islice(images.dataset(count, seed=31), count)]


def _seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _compare(
    session: Any, loaded: Any, inputs: Any, outputs: list[str], features: list[str], pictures: list[bytes]
) -> dict[str, float]:
    """Worst feature error of any output, and the share of equal classes."""
    error, equal = 0.0, []
    answers = [name for name in outputs if name not in features] or features[: len(features) // 2]
    largest = dict.fromkeys(features, 0.0)
    worst = dict.fromkeys(features, 0.0)
    for start in range(0, len(pictures), _BATCH):
        batch = np.array(pictures[start : start + _BATCH], dtype=object)
        expected = dict(zip(outputs, session.run(outputs, {inputs: batch}), strict=True))
        got = loaded.predict({"images": batch}).outputs
        for name in features:
            largest[name] = max(largest[name], float(np.abs(expected[name]).max()))
            worst[name] = max(worst[name], float(np.abs(expected[name] - got[name]).max()))
        equal += [(expected[name].argmax(-1) == got[name].argmax(-1)).ravel() for name in answers]
    error = max(worst[name] / largest[name] for name in features)
    return {"error": error, "agreement": float(np.concatenate(equal).mean())}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(CLASSES), choices=list(CLASSES))
    parser.add_argument("--formats", nargs="+", default=["bw_cnn"])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
