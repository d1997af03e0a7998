"""The five networks and two small ones: the native kernel against the reference, both exporters, and float results.

Every network in every format at full size is `python -m benchmarks.bits`.
"""

import numpy as np
import onnxruntime
import pytest

from amlrealtimeai import npu
from amlrealtimeai.npu.compare import first_difference
from benchmarks import networks
from tests.npu.traced import traced_run

AVAILABLE = npu.kernel_info()["available"]


def check_bits(name, size, fmt, threads=2):
    program, image, expected = traced_run(name, size, fmt)
    assert first_difference(program, expected, npu.Native(program, threads, keep_tensors=True).run(image)) is None
    outputs = npu.Native(program, threads).run(image)
    for port in program.output_ports:
        assert outputs[port.name].tobytes() == program.to_port(port, expected[port.tensor]).tobytes(), port.name


@pytest.mark.filterwarnings("ignore:.*saturate")
@pytest.mark.parametrize("fmt", list(npu.formats))
def test_resnet50_in_every_format(fmt):
    check_bits("resnet50", 224, fmt)


@pytest.mark.parametrize(
    ("name", "size", "chains"),
    [("resnet152", 224, 157), ("densenet121", 224, 126), ("vgg16", 224, 20), ("ssdvgg300", 300, 38)],
)
def test_every_network_at_its_own_size(name, size, chains):
    check_bits(name, size, "bw_cnn")
    assert len(traced_run(name, size, "bw_cnn")[0].chains) == chains


@pytest.mark.parametrize("fmt", ["msfp16", "ms_fp9"])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet152", 64),
        ("densenet121", 64),
        ("vgg16", 32),
        ("ssdvgg300_block4", 37),
        ("mobilenet_v2", 96),
        ("efficientnet_b0", 64),
    ],
)
@pytest.mark.filterwarnings("ignore:.*saturate")
def test_every_network_in_other_formats(name, size, fmt):
    check_bits(name, size, fmt)


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("fmt", ["bw_cnn", "msfp12"])
@pytest.mark.parametrize(
    ("name", "size"), [("resnet152", 64), ("densenet121", 64), ("vgg16", 32), ("efficientnet_b0", 96)]
)
def test_every_instruction_set(name, size, fmt, isa, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_ISA", isa)
    check_bits(name, size, fmt, threads=3)


# relative root mean square errors of msfp16 (7 bits, blocks of 16): a wrong window or order of channels gives 1 or more
@pytest.mark.parametrize(
    ("name", "size", "most"),
    [
        ("resnet50", 224, 0.03),
        ("resnet152", 64, 0.03),
        ("densenet121", 64, 0.03),
        ("vgg16", 64, 0.05),
        ("ssdvgg300", 300, 0.05),
        ("mobilenet_v2", 96, 0.05),
        ("efficientnet_b0", 96, 0.05),
    ],
)
def test_outputs_are_near_float32(name, size, most):
    document = networks.model(name, size)
    image = networks.image(document)
    session = onnxruntime.InferenceSession(document.SerializeToString(), providers=["CPUExecutionProvider"])
    found = npu.Native(npu.compile(document, fmt="msfp16"), threads=2).run(image)
    results = session.run(list(found), {session.get_inputs()[0].name: image})
    for (output, values), expected in zip(found.items(), results, strict=True):
        error = np.sqrt(((values - expected) ** 2).mean() / (expected**2).mean())
        assert (output, error < most) == (output, True), error


@pytest.mark.parametrize(("name", "size"), [("densenet121", 64), ("vgg16", 32), ("ssdvgg300", 300)])
def test_tensorflow_and_pytorch_forms_are_one_program(name, size):
    """NHWC or NCHW image, explicit or implied padding, convolutions or Gemm: the same products in the same order."""
    forms = {style: networks.model(name, size, style) for style in ("tensorflow", "pytorch")}
    programs = {style: npu.compile(form, fmt="bw_cnn") for style, form in forms.items()}
    image = networks.image(forms["tensorflow"])
    nchw = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    assert programs["pytorch"].inputs[0][1] == nchw.shape
    one = npu.Native(programs["tensorflow"], threads=2).run(image)
    other = npu.Native(programs["pytorch"], threads=2).run(nchw)
    assert list(one) == list(other)
    for output, values in one.items():
        same = other[output]
        same = same.transpose(0, 2, 3, 1) if same.ndim == 4 else same.reshape(values.shape)
        assert np.array_equal(values, same), output
        assert np.abs(values).max() > 0


def test_the_two_parts_of_ssd_have_the_shapes_of_the_original():
    part, heads = (npu.compile(networks.model(name)) for name in ("ssdvgg300", "ssdvgg300_block4"))
    shapes = dict(part.outputs + heads.outputs)
    assert shapes.pop("block4") == heads.inputs[0][1] == (1, 37, 37, 512)
    sites = {"block4": 37, "block7": 19, "block8": 10, "block9": 5, "block10": 3, "block11": 1}
    anchors = {"block4": 4, "block7": 6, "block8": 6, "block9": 6, "block10": 4, "block11": 4}
    assert shapes == {
        f"{block}_box/{part}": (1, size, size, anchors[block] * values)
        for block, size in sites.items()
        for part, values in (("conv_cls", 21), ("conv_loc", 4))
    }
