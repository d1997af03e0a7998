"""How good the workshop's SSD-VGG is: float and in block floating point through the NPU, on scenes it never saw.

    python -m amlrealtimeai.lab.evaluate_detection [--count 200] [--weights FILE.npz] [--formats msfp16 bw_cnn]
    python -m amlrealtimeai.lab.evaluate_detection --voc FOLDER
    python -m amlrealtimeai.lab.evaluate_detection --service

The formats are applied by conversion. --service asks each converted model over gRPC for its twelve outputs.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from amlrealtimeai import command_line, npu
from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.artifact.preprocess import MEANS
from amlrealtimeai.client import ServiceClient
from amlrealtimeai.lab import images
from amlrealtimeai.lab.average_precision import Found, mean_average_precision
from amlrealtimeai.lab.evaluate import add_options
from amlrealtimeai.lab.images import Box, VocFolder
from amlrealtimeai.serving.server import Server

_SEED = 20182  # of the held-out scenes: training draws from other seeds
_THRESHOLD = 0.01  # of a detection: average precision looks at all recalls
_MOST = 5

Scene = tuple[np.ndarray, list[Box]]
Detector = Callable[[np.ndarray], Found]


@dataclass(frozen=True)
class Row:
    """mAP at an overlap of 0.5 in one number format on one set, in percent; drop: points below float."""

    scenes: str
    count: int
    number_format: str
    precision: float
    drop: float


SETS: dict[str, tuple[Sequence[str], float]] = {
    "Noto, plain": (("noto",), 0.0),
    "Noto": (("noto",), 0.5),
    "five designs, plain": (images.TRAINING_DESIGNS, 0.0),
    "OpenMoji, plain": ((images.UNSEEN_DESIGN,), 0.0),
}
"""Name -> designs and variety of images.scene. The first is measured in every format."""


def scenes(name: str, count: int) -> Iterator[Scene]:
    """`count` held-out scenes of 1 to 5 objects of the set `name`, 300 x 300."""
    designs, variety = SETS[name]
    for number in range(count):
        seed = _SEED * 1_000_003 + number
        yield images.scene(300, seed, most=_MOST, design=designs[number % len(designs)], variety=variety)


def own_scenes(folder: Path) -> Iterator[Scene]:
    """All pictures of a folder in PASCAL VOC's layout, stretched to 300 x 300."""
    voc = VocFolder(folder)
    for number in range(len(voc.names)):
        picture, boxes = voc.read(number)
        yield np.asarray(picture.resize((ssdvgg.IMAGE, ssdvgg.IMAGE), Image.Resampling.BILINEAR)), boxes


def detectors(
    formats: Sequence[str], weights: Path | None, folder: Path, threads: int | None, services: ExitStack | None = None
) -> dict[str, Detector]:
    """ "float32" in TensorFlow and each of `formats` as a converted model. folder: for what conversion writes.

    services: if given, the converted models are served and asked over gRPC, until it is closed.
    """
    import tensorflow.compat.v1 as tf

    from amlrealtimeai.accel.models import SsdVgg
    from amlrealtimeai.convert import convert_saved_model

    model = SsdVgg(folder, is_frozen=True, weights=weights or "workshop")
    settings = tf.ConfigProto(intra_op_parallelism_threads=threads or 0)
    session = tf.Session(graph=tf.Graph(), config=settings)
    with session.graph.as_default():
        pixels = tf.placeholder(tf.float32, [None, ssdvgg.IMAGE, ssdvgg.IMAGE, 3], name="pixels")
        outputs = model.import_graph_def(pixels, is_training=False)
        model.restore_weights(session)
        if formats:
            saved = str(folder / "saved")
            tf.saved_model.simple_save(session, saved, {"pixels": pixels}, {t.name: t for t in outputs})
    found: dict[str, Detector] = {"float32": _detector(lambda x: session.run(outputs, {pixels: x}))}
    names = [tensor.name for tensor in outputs]
    for number_format in formats:
        path = folder / f"{number_format}.zip"
        convert_saved_model(saved, "pixels", names, path, name="ssdvgg", fmt=number_format)
        converted = ConvertedModel.load(path, threads)
        answers = _served(converted, names, services) if services else _answers(converted, names)
        found[number_format] = _detector(answers)
    return found


def rows(name: str, pairs: Sequence[Scene], chosen: dict[str, Detector]) -> list[Row]:
    """Measure detectors, "float32" the first, on the same scenes."""
    truth = [boxes for _, boxes in pairs]
    values = {}
    for number_format, detect in chosen.items():
        progress = tqdm(pairs, f"{name}, {number_format}", unit="img", mininterval=5)
        values[number_format] = 100 * mean_average_precision([detect(picture) for picture, _ in progress], truth)
    return [Row(name, len(pairs), key, value, values["float32"] - value) for key, value in values.items()]


def table(found: Sequence[Row]) -> str:
    """As Markdown."""
    lines = ["| scenes | number | format | mAP@0.5 % | drop, points |", "|---|---|---|---|---|"]
    for row in found:
        drop = "" if row.number_format == "float32" else f"{row.drop:.2f}"
        lines.append(f"| {row.scenes} | {row.count} | {row.number_format} | {row.precision:.2f} | {drop} |")
    return "\n".join(lines)


def _answers(converted: ConvertedModel, names: list[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    def answer(x: np.ndarray) -> list[np.ndarray]:
        outputs = converted.predict({"pixels": x}, names).outputs
        return [outputs[name] for name in names]

    return answer


def _served(
    converted: ConvertedModel, names: list[str], services: ExitStack
) -> Callable[[np.ndarray], list[np.ndarray]]:
    server = services.enter_context(Server())
    server.add_model("ssdvgg", converted)
    client = services.enter_context(ServiceClient(server.address))

    def answer(x: np.ndarray) -> list[np.ndarray]:
        outputs = client.predict({"pixels": x}, names, timeout=None)
        return [outputs[name] for name in names]

    return answer


def _detector(run: Callable[[np.ndarray], list[np.ndarray]]) -> Detector:
    def detect(picture: np.ndarray) -> Found:
        x = picture[np.newaxis].astype(np.float32) - MEANS
        return ssdvgg.postprocess(run(x), select_threshold=_THRESHOLD)

    return detect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = command_line.Parser(
        prog="python -m amlrealtimeai.lab.evaluate_detection",
        description="mAP@0.5 of the workshop's SSD-VGG, float and in block floating point.",
    )
    add_options(parser, "scenes", 200, 100)
    parser.add_argument("--voc", type=Path, metavar="FOLDER", help="own pictures in PASCAL VOC's layout instead")
    parser.add_argument(
        "--formats", nargs="*", choices=sorted(npu.formats), default=["msfp16", "bw_cnn"], help="preset formats"
    )
    parser.add_argument("--service", action="store_true", help="ask the converted models over gRPC, as a client would")
    return command_line.run(lambda: _evaluate(parser.parse_args(arguments)))


def _evaluate(chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as services:
        asked = services if chosen.service else None
        known = detectors(chosen.formats, chosen.weights, Path(folder), chosen.threads, asked)
        sets = {str(chosen.voc): list(own_scenes(chosen.voc))} if chosen.voc else None
        found: list[Row] = []
        for name in sets or SETS:
            pairs = sets[name] if sets else list(scenes(name, chosen.others if found else chosen.count))
            found += rows(name, pairs, {"float32": known["float32"]} if found else known)
    text = table(found)
    print(text)
    if chosen.out:
        chosen.out.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
