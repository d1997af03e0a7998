"""Which CNNs compile, and whether they compute what ONNX Runtime computes: architectures by name, with random weights.

    python -m benchmarks.census [--only keras:MobileNetV2 onnx:squeezenet ...] [--torch PYTHON] [--folder FOLDER]

keras: tf.keras.applications through tf2onnx without its optimiser (from_keras.py). onnx: the light models of the onnx
package. torchvision, timm: through torch's exporter (from_torch.py), in the environment of PYTHON (pip install torch
torchvision timm onnx onnxscript), which is no part of this project; without --torch they are left out. Weights are
random as the libraries make them; batch normalisation has gains of 0.8 to 1.2, means around 0 and variances of 0.5 to
1. FOLDER keeps the models and what was found, from where a run that was stopped goes on.

Each model runs in a process of its own, on one of the lessons' pictures. What does not compile whole, or up to its
Softmax, is converted with host parts. in float: the largest difference of the compiled layers, computed without
quantising (npu/unrounded.py), to ONNX Runtime's float32, over the largest value; what is wrongly lowered shows here.
m=5, 6, 7: the same in blocks of 16 with that many mantissa bits (7 is msfp16). bits: whether the native kernel has
those of the reference in msfp16 ("-": not compared, which would take too long). top-1: whether the largest output is
the same one; "tie" where the two are closer to each other than the error. MiB: the most memory of the process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import measuring

KERAS = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "EfficientNetB1"),
    *("EfficientNetB2", "EfficientNetV2B0", "EfficientNetV2B1", "EfficientNetV2S", "DenseNet121", "DenseNet169"),
    *("DenseNet201", "ResNet50", "ResNet101", "ResNet50V2", "ResNet101V2", "Xception", "InceptionV3"),
    *("InceptionResNetV2", "NASNetMobile", "VGG16", "VGG19", "ConvNeXtTiny"),
)
TORCHVISION = (
    *("alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"),
    *("densenet121", "squeezenet1_0", "squeezenet1_1", "googlenet", "inception_v3", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "mnasnet1_0", "shufflenet_v2_x0_5"),
    *("shufflenet_v2_x1_0", "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf"),
    *("convnext_tiny", "swin_t", "vit_b_16"),
)
TIMM = (
    *("resnet26d", "seresnet50", "skresnet18", "ecaresnet26t", "res2net50_26w_4s", "resnest14d", "dla34", "dpn68"),
    *("hrnet_w18_small", "ghostnet_100", "mobilenetv4_conv_small", "tf_efficientnet_lite0", "mixnet_s", "fbnetc_100"),
    *("rexnet_100", "regnetx_002", "regnety_002", "repvgg_a0", "vovnet39a", "cspresnet50", "darknet53", "selecsls42b"),
    *("xception41", "inception_v4", "inception_resnet_v2", "nfnet_l0", "hardcorenas_a", "lcnet_050", "tinynet_a"),
    *("efficientvit_b0", "convmixer_768_32", "pit_ti_224"),
)
LIGHT = (
    *("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19"),
    "zfnet512",
)
_HEADINGS = {
    "outcome": "outcome",
    "nodes": "nodes",
    "chains": "chains",
    "seconds": "compile s",
    "exact": "in float",
    "m5": "m=5",
    "m6": "m=6",
    "m7": "m=7",
    "bits": "bits",
    "top": "top-1",
    "peak": "MiB",
}
_LARGE = {
    **dict.fromkeys(("inception_v3", "inception_v4"), 299),
    **dict.fromkeys(("alexnet", "vgg11", "vgg16_bn", "VGG16", "VGG19", "NASNetMobile"), 224),
    **dict.fromkeys(("vit_b_16", "swin_t", "pit_ti_224"), 224),
}
_TAKES_BYTES = ("EfficientNet", "MobileNetV3", "ConvNeXt")  # keras' own preprocessing is part of these
_PICTURES = Path(__file__).parents[1] / "data" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--torch", default="")
    parser.add_argument("--folder", default="")
    chosen = parser.parse_args()
    print(f"{measuring.machine()}\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.folder or temporary)
        folder.mkdir(exist_ok=True)
        found = {name: _examined(name, folder, chosen.torch) for name in chosen.only or _all(bool(chosen.torch))}
    rows = [[name, *(str(row.get(key, "-")) for key in _HEADINGS)] for name, row in found.items()]
    print(measuring.table(["model", *_HEADINGS.values()], rows))
    outcomes = [row["outcome"] for row in found.values()]
    counts = [sum(outcome.startswith(word) for outcome in outcomes) for word in ("whole", "up to")]
    print(f"\n{counts[0]} of {len(rows)} compile whole, {counts[1]} up to their Softmax")


def _all(with_torch: bool) -> list[str]:
    families = {"keras": KERAS, "onnx": LIGHT}
    if with_torch:
        families |= {"torchvision": TORCHVISION, "timm": TIMM}
    return [f"{family}:{name}" for family, names in families.items() for name in names]


def _examined(name: str, folder: Path, torch: str) -> dict[str, str]:
    """What was found of a model, now or before."""
    family, architecture = name.split(":", 1)
    path = folder / f"{family}_{architecture}.onnx"
    notes = path.with_suffix(".json")
    if notes.exists():
        return dict(json.loads(notes.read_text()))
    size = _LARGE.get(architecture, 96)
    picture = folder / "picture.npy"
    bytes_wanted = family == "keras" and architecture.startswith(_TAKES_BYTES)
    np.save(picture, _picture(size) * (57 if bytes_wanted else 1) + (115 if bytes_wanted else 0))
    commands = [[sys.executable, "-m", "benchmarks.census_one", name, str(path), str(picture)]]
    if family in ("torchvision", "timm") and not path.exists():
        script = str(Path(__file__).with_name("from_torch.py"))
        commands.insert(0, [torch, script, family, architecture, str(path), str(size)])
    if family == "keras" and not path.exists():
        commands.insert(0, [sys.executable, "-m", "benchmarks.from_keras", architecture, str(path), str(size)])
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            last = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
            return {"outcome": f"failed: {last[:100]}"}
    found = dict(json.loads(result.stdout.strip().splitlines()[-1]))
    notes.write_text(json.dumps(found))
    print(name, *found.values(), sep=" | ", file=sys.stderr, flush=True)
    return found


def _picture(size: int) -> np.ndarray:
    """[1, 3, size, size], float32 of about -2 to 2."""
    image = Image.open(_PICTURES / "red_fox.jpg").convert("RGB").resize((size, size))
    return ((np.asarray(image, np.float32) / 255 - 0.45) / 0.225).transpose(2, 0, 1)[None]


if __name__ == "__main__":
    main()
