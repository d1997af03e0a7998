"""Which CNNs compile, and whether they compute what ONNX Runtime computes: architectures by name, with random weights.

    python -m benchmarks.census [--only keras:MobileNetV2 onnx:squeezenet ...] [--torch PYTHON] [--folder FOLDER]

keras: tf.keras.applications through tf2onnx, here. onnx: the onnx package's light models. torchvision, timm: through
torch's exporter, in the environment of PYTHON (pip install torch torchvision timm onnx onnxscript), which is no part of
this project; without --torch they are left out. Weights are random as the libraries make them; batch normalisation has
gains of 0.8 to 1.2, means around 0 and variances of 0.5 to 1.

Each model runs in a process of its own, in msfp16. Where only the end (Softmax) is refused, the model is cut there.
error: the largest difference to ONNX Runtime's float32 over the largest value. bits: whether the native kernel has
those of the reference (on a part of the image where that takes too long: "-"). MiB: the most memory of the process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring

KERAS = {
    name: size
    for size, names in {
        96: (
            *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "EfficientNetB0", "EfficientNetB1"),
            *(
                "EfficientNetB2",
                "EfficientNetV2B0",
                "EfficientNetV2B1",
                "EfficientNetV2S",
                "DenseNet121",
                "DenseNet169",
            ),
            *("DenseNet201", "ResNet50", "ResNet101", "ResNet50V2", "ResNet101V2", "Xception", "InceptionV3"),
            *("InceptionResNetV2", "NASNetMobile", "VGG16", "VGG19", "ConvNeXtTiny"),
        ),
    }.items()
    for name in names
}
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
_HEADINGS = ["model", "outcome", "nodes", "chains", "compile s", "error", "bits", "top-1", "MiB"]
# what torch's environment runs: the model's name, the file to write
_EXPORT = """
import sys, torch
family, name, path, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
torch.manual_seed(0)
if family == "torchvision":
    import torchvision
    options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **({"init_weights": True} | options if options else {}))
else:
    import timm
    model = timm.create_model(name, pretrained=False, exportable=True)
for norm in model.modules():
    if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
        torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
        torch.nn.init.normal_(norm.bias, 0.0, 0.1)
        torch.nn.init.normal_(norm.running_mean, 0.0, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.0)
image = torch.randn(1, 3, size, size)
model.eval()
torch.onnx.export(model, (image,), path, input_names=["image"], output_names=["scores"], opset_version=17, dynamo=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--torch", default="")
    parser.add_argument("--folder", default="")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(examine(chosen.child[0], Path(chosen.child[1]))))
        return
    print(f"{measuring.machine()}\n")
    names = chosen.only or _all(bool(chosen.torch))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.folder or temporary)
        rows = [_row(name, folder, chosen.torch) for name in names]
    print(measuring.table(_HEADINGS, rows))
    whole = sum(row[1] == "whole" for row in rows)
    print(f"\n{whole} of {len(rows)} compile whole, {sum(row[1].startswith('cut') for row in rows)} up to their end")


def _all(with_torch: bool) -> list[str]:
    families = {"keras": tuple(KERAS), "onnx": LIGHT}
    if with_torch:
        families |= {"torchvision": TORCHVISION, "timm": TIMM}
    return [f"{family}:{name}" for family, names in families.items() for name in names]


def _row(name: str, folder: Path, torch: str) -> list[str]:
    path = folder / f"{name.replace(':', '_')}.onnx"
    family, architecture = name.split(":", 1)
    if family in ("torchvision", "timm") and not path.exists():
        size = {"inception_v3": 299, "inception_v4": 299, "alexnet": 224, "vgg11": 224, "vgg16_bn": 224}.get(
            architecture
        )
        size = size or (224 if any(part in architecture for part in ("vit", "swin", "pit")) else 96)
        command = [torch, "-c", _EXPORT, family, architecture, str(path), str(size)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            return [
                name,
                f"not exported: {(made.stderr.strip().splitlines() or ['?'])[-1][:60]}",
                *["-"] * (len(_HEADINGS) - 2),
            ]
    command = [sys.executable, "-m", "benchmarks.census", "--child", name, str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return [name, f"failed: {result.stderr.strip().splitlines()[-1][:60]}", *["-"] * (len(_HEADINGS) - 2)]
    found = json.loads(result.stdout.strip().splitlines()[-1])
    print(name, *found.values(), sep=" | ", file=sys.stderr, flush=True)
    return [
        name,
        *(str(found[key]) for key in ("outcome", "nodes", "chains", "seconds", "error", "bits", "top", "peak")),
    ]


def examine(name: str, path: Path) -> dict[str, Any]:
    """Compile one model and compare it with ONNX Runtime."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnx

    from amlrealtimeai import npu

    family, architecture = name.split(":", 1)
    if family == "keras" and not path.exists():
        _keras(architecture, path)
    if family == "onnx":
        path = Path(onnx.__file__).parent / f"backend/test/data/light/light_{architecture}.onnx"
    model = onnx.load(path)
    if family == "onnx":
        _randomise(model)
    stopping = npu.blockers(model)
    row: dict[str, Any] = {"nodes": len(model.graph.node), "outcome": "whole"}
    row |= dict.fromkeys(("chains", "seconds", "error", "bits", "top"), "-")
    outputs = None
    if stopping:
        ops = sorted({blocker.op for blocker in stopping})
        cuts = {blocker.cut for blocker in stopping}
        last = {node.op_type for node in model.graph.node[-3:]}
        ended = len(cuts) == 1 and None not in cuts and set(ops) <= {"Softmax"} and "Softmax" in last
        row["outcome"] = "cut before its Softmax" if ended else f"{len(stopping)} nodes refused: {', '.join(ops)}"
        outputs = [str(next(iter(cuts)))] if ended else None
    if not stopping or outputs:
        begin = time.perf_counter()
        program = npu.compile(model, fmt="msfp16", outputs=outputs)
        row |= {"seconds": f"{time.perf_counter() - begin:.1f}", "chains": len(program.chains)}
        row |= _compare(model, program)
    row["peak"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return row


def _compare(model: Any, program: Any) -> dict[str, str]:
    import onnx
    import onnxruntime

    from amlrealtimeai import npu

    ((name, shape),) = program.inputs
    x = np.random.default_rng(7).normal(0, 1, (1, *shape[1:])).astype(np.float32)
    if max(shape[1:]) == shape[-1] or shape[1] <= 4:
        x = x.clip(-2.5, 2.5)
    read = {value for node in model.graph.node for value in node.input}
    for port in [port for port in model.graph.input if port.name not in read]:
        model.graph.input.remove(port)  # tf2onnx leaves those of constants that it folded; ONNX Runtime asks for them
    del model.graph.output[:]
    wanted = [port.name for port in program.output_ports]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(output) for output in wanted)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(wanted, {name: x})
    del session
    found = npu.Native(program, threads=2).run(x)
    errors = [np.abs(found[n] - e).max() / np.abs(e).max() for n, e in zip(wanted, expected, strict=True)]
    top = [np.argmax(found[n]) == np.argmax(e) for n, e in zip(wanted, expected, strict=True)]
    slow = sum(np.prod(program.tensors[c.writes]) for c in program.chains) > 12e6
    bits = "-"
    if not slow:
        reference = npu.reference.run(program, x)
        bits = "equal" if all(reference[n].tobytes() == found[n].tobytes() for n in wanted) else "DIFFER"
    return {"error": f"{max(errors):.1e}", "bits": bits, "top": "yes" if all(top) else "no"}


def _keras(name: str, path: Path) -> None:
    """Write an architecture of keras.applications with random weights as ONNX."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    import tf2onnx

    tf.keras.utils.set_random_seed(0)
    size = 224 if name.startswith(("VGG", "NASNet")) else KERAS.get(name, 96)
    model = getattr(tf.keras.applications, name)(weights=None, input_shape=(size, size, 3))
    for layer in model._flatten_layers():
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            if layer.gamma is not None:
                layer.gamma.assign(tf.random.uniform(layer.gamma.shape, 0.8, 1.2))
            layer.beta.assign(tf.random.normal(layer.beta.shape, 0, 0.1))
            layer.moving_mean.assign(tf.random.normal(layer.beta.shape, 0, 0.1))
            layer.moving_variance.assign(tf.random.uniform(layer.beta.shape, 0.5, 1.0))
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, opset=17, output_path=str(path))


def _randomise(model: Any) -> None:
    """The light models' weights are constants of one value: random ones in their place."""
    from onnx import numpy_helper

    rng, made = np.random.default_rng(0), {}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "ConstantOfShape":
            shape = [int(n) for n in shapes[node.input[0]]]
            made[node.output[0]] = shape
            model.graph.node.remove(node)
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for name, shape in made.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        values = rng.normal(0, (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.1, shape).astype(np.float32)
        values = np.abs(values) + 0.5 if name in variances else values
        model.graph.initializer.append(numpy_helper.from_array(values, name))


if __name__ == "__main__":
    main()
