"""The same bits whatever the program, the array it is given, the thread's floating-point mode."""

import ctypes
import platform
from ctypes.util import find_library

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.config import as_config
from amlrealtimeai.npu.native.plan import PlanBuilder
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Shape, Window
from tests.npu.graphs import model, node
from tests.npu.random_programs import difference, random_case, random_program

AVAILABLE = npu.kernel_info()["available"]


@pytest.mark.parametrize("isa", AVAILABLE)
def test_random_programs_have_the_bits_of_the_reference(isa):
    for seed in range(60):
        case = random_case(seed)
        found = difference(*case, isa, threads=1 + seed % 4)
        assert found is None, f"seed {seed}: {found}\n{case[0].listing()}"


def program_of(
    shape: Shape, *chains: Chain, matrices=None, vectors=None, layout="nhwc", fmt="msfp16", outputs=("y",), tensors=None
) -> Program:
    """A program over the input "x"; `tensors` are the shapes of what the chains write (default: the input's)."""
    written = {chain.writes: shape for chain in chains} | (tensors or {})
    config = as_config("bw_a10").with_format(npu.formats[fmt] if isinstance(fmt, str) else fmt)
    ports = tuple(Port(name, name) for name in outputs)
    every = {"x": shape, **written}
    return Program("p", config, (Port("x", "x", layout),), ports, every, chains, matrices or {}, vectors or {})


def chain(reads: str, *steps: Instruction, writes: str) -> Chain:
    return Chain(writes, (Instruction("v_rd", tuple(reads.split())), *steps, Instruction("v_wr", (writes,))))


def identity(channels: int) -> Matrix:
    """A 1x1 convolution in msfp16 that gives back what it gets, as far as the format holds it."""
    length = min(16, channels + -channels % 4)
    blocks = -(-channels // length)
    mantissas = np.zeros((channels, 1, blocks, length), np.int8)
    mantissas.reshape(channels, -1)[:, :channels] = 64 * np.eye(channels)
    return Matrix(mantissas, np.zeros((channels, 1, blocks), np.int32), (1, 1), channels)


def mul(name: str) -> Instruction:
    return Instruction("mv_mul", (name,), Window((1, 1)))


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("channels", [4, 8, 20, 24, 36, 40])
def test_shortcuts_whose_channels_fill_no_block(channels, isa):
    """x -> product a -> (product b) + a, quantised again: what stands behind the last channel must not count."""
    program = program_of(
        (5, 3, channels),
        chain("x", mul("m"), writes="a"),
        chain("a", mul("m"), Instruction("vv_add", ("a",)), writes="b"),
        chain("b", mul("m"), writes="y"),
        matrices={"m": identity(channels)},
    )
    image = np.random.default_rng(channels).integers(-60, 60, (2, 5, 3, channels)).astype(np.float32)
    image[..., 0] = 64  # every block has the same exponent, so integers up to 127 pass as they are
    image[..., 16::16] = 64
    assert npu.Native(program, 2, isa=isa).run(image)["y"].tolist() == (2 * image).tolist()


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("channels", [3, 5, 6, 20, 36])
def test_a_shortcut_from_the_graphs_input(channels, isa):
    program = program_of(
        (4, 3, channels),
        chain("x", mul("m"), Instruction("vv_add", ("x",)), writes="y"),
        matrices={"m": identity(channels)},
    )
    image = np.random.default_rng(channels).integers(-60, 60, (3, 4, 3, channels)).astype(np.float32)
    image[..., 0] = 64
    image[..., 16::16] = 64
    assert npu.Native(program, 2, isa=isa).run(image)["y"].tolist() == (2 * image).tolist()


@pytest.mark.parametrize("name", ["y/0", "y/1", "x/blocks", "x", "", "y"])
def test_a_tensor_may_have_any_name(name):
    """Three additions take more than one step, and what passes between them needs a name that is nobody's."""
    other = "other" if name in ("x", "y") else name
    adds = [Instruction("vv_add", (source,)) for source in ("x", other, other)]
    program = program_of(
        (2, 2, 4),
        chain("x", Instruction("v_relu"), writes=other),
        chain("x", mul("m"), *adds, writes="y"),
        matrices={"m": identity(4)},
        outputs=("y", other),
    )
    image = np.float32([-64, 1, 2, 3] * 4).reshape(1, 2, 2, 4)
    found = npu.Native(program, 2).run(image)
    assert found["y"][0, 0, 0].tolist() == [-128, 4, 8, 12]
    assert found[other][0, 0, 0].tolist() == [0, 1, 2, 3]


def test_no_step_of_the_plan_refers_to_lanes_that_nobody_writes():
    """Every pixel has whole blocks of lanes, in every form that a tensor is kept in."""
    program = random_program(np.random.default_rng(3))
    tensors = PlanBuilder(program, keep=False).arrays[0]
    for tensor in tensors:
        assert tensor.whole or tensor.floats < 0 or tensor.lanes % tensor.length == 0


def flat_program() -> Program:
    return program_of((1, 1, 8), chain("x", mul("m"), writes="y"), matrices={"m": identity(8)}, layout="nc")


VIEWS = {
    "every other column": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "upside down": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "Fortran order": np.asfortranarray,
    "read-only": lambda a: np.frombuffer(a.tobytes(), np.float32).reshape(a.shape),
    "big-endian": lambda a: a.astype(">f4"),
    "not aligned": lambda a: np.frombuffer(b"." + a.tobytes(), np.float32, offset=1).reshape(a.shape),
    "a field of records": lambda a: np.rec.fromarrays([a, a], names="p,q").p,
    "one image broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "part of a larger array": lambda a: np.pad(a, 3, constant_values=9)[tuple(slice(3, -3) for _ in a.shape)],
    "masked": np.ma.masked_array,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("layout", ["nc", "nhwc", "nchw"])
def test_an_array_may_lie_in_memory_in_any_way(layout, view):
    shape = (1, 1, 8) if layout == "nc" else (3, 2, 8)
    program = program_of(shape, chain("x", mul("m"), writes="y"), matrices={"m": identity(8)}, layout=layout)
    image = np.random.default_rng(0).integers(-127, 127, (3, *program.inputs[0][1][1:])).astype(np.float32)
    given = VIEWS[view](image)
    expected = np.asarray(given, np.float32).reshape(image.shape)
    nhwc = expected.transpose(0, 2, 3, 1) if layout == "nchw" else expected.reshape(3, *shape)
    for run in (npu.Native(program, 2).run, lambda x: npu.reference.run(program, x)):
        assert run(given)["y"].tolist() == nhwc.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 8), np.float32),
        np.zeros((2, 0), np.float32),
        np.zeros((), np.float32),
        np.zeros((1, 8), np.float64),
        np.zeros((1, 8), np.complex64),
        np.zeros((1, 8), object),
        np.zeros((1, 8), [("a", np.float32)]),
        np.zeros((1, 8), "U4"),
        np.zeros((1, 8), bool),
        np.zeros(8, np.float32),
        None,
    ],
    ids=lambda array: f"{getattr(array, 'dtype', None)} {getattr(array, 'shape', None)}",
)
def test_other_arrays_are_refused(array):
    with pytest.raises(InvalidInputError, match=r"x: expected float32 \[n >= 1, 8\], got "):
        npu.Native(flat_program(), 1).run(array)


@pytest.mark.parametrize("isa", AVAILABLE)
def test_zeros_keep_their_signs_and_subnormal_numbers_their_values(isa):
    tiny = np.float32(1e-45)
    vectors = {"g": np.float32([1, -1, 0.5, 1, 1, 1, 1, 1])}
    image = np.float32([0.0, 0.0, 3 * tiny, -0.0, tiny, -tiny, 5, -5]).reshape(1, 1, 1, 8)
    scaled = program_of((1, 1, 8), chain("x", Instruction("vv_mul", ("g",)), writes="y"), vectors=vectors)
    bits = npu.Native(scaled, 1, isa=isa).run(image)["y"].view(np.uint32).ravel()
    # 3 * 2**-149 / 2 is half way between 1 and 2 units: to even
    assert bits.tolist() == [0, 1 << 31, 2, 1 << 31, 1, 1 << 31 | 1, 0x40A00000, 0xC0A00000]
    clipped = program_of((1, 1, 8), chain("x", Instruction("v_relu"), writes="y"))
    bits = npu.Native(clipped, 1, isa=isa).run(image)["y"].view(np.uint32).ravel()
    assert bits.tolist() == [0, 0, 3, 0, 1, 0, 0x40A00000, 0]


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="knows x86's fenv_t")
@pytest.mark.parametrize("isa", AVAILABLE)
def test_a_thread_that_flushes_subnormal_numbers_gets_the_same_bits(isa):
    """TensorFlow and others set it for their threads, and callers may be such threads."""
    program = program_of(
        (8, 8, 8), chain("x", Instruction("vv_mul", ("g",)), writes="y"), vectors={"g": np.full(8, 0.5, np.float32)}
    )
    image = np.full((1, 8, 8, 8), 1e-38, np.float32)
    expected = npu.reference.run(program, image)["y"]
    assert (expected > 0).all()
    libm = ctypes.CDLL(find_library("m"))
    before, flushing = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    libm.fegetenv(before)
    flushing[:] = before[:28] + (int.from_bytes(before[28:], "little") | 0x8040).to_bytes(4, "little")
    libm.fesetenv(flushing)
    try:
        found = npu.Native(program, 2, isa=isa).run(image)["y"]
    finally:
        libm.fesetenv(before)
    assert found.tobytes() == expected.tobytes()


LARGE = np.full(4, 3e38, np.float32)


@pytest.mark.parametrize(
    "steps",
    [
        (Instruction("vv_add", ("large",)), Instruction("vv_add", ("large",))),
        (Instruction("vv_mul", ("large",)),),
        (mul("m"), Instruction("vv_add", ("large",))),
    ],
    ids=["sum", "product", "bias"],
)
def test_constants_that_could_overflow_are_refused(steps):
    with pytest.raises(InvalidInputError, match=r"chain y: vv_\w+ may reach .*more than float32 holds"):
        program_of((1, 1, 4), chain("x", *steps, writes="y"), matrices={"m": identity(4)}, vectors={"large": LARGE})


def test_an_onnx_model_with_such_constants_is_refused_where_it_is_compiled():
    constants = {"w": np.eye(4, dtype=np.float32)[:, :, None, None], "b": LARGE}
    with pytest.raises(InvalidInputError, match="constants have to be smaller"):
        npu.compile(model([node("Conv", "x w b", "y")], [1, 4, 2, 2], constants))


def test_input_whose_sums_could_overflow_is_refused():
    """inf - inf would be next, and what that gives depends on the CPU."""
    program = program_of(
        (2, 2, 4), chain("x", Instruction("v_avg", (), Window((2, 2))), writes="y"), tensors={"y": (1, 1, 4)}
    )
    image = np.full((1, 2, 2, 4), 3e38, np.float32)
    for run in (npu.Native(program, 1).run, lambda x: npu.reference.run(program, x)):
        with pytest.raises(InvalidInputError, match=r"x: expected values of at most 1\.8e\+19, got 3\.0e\+38"):
            run(image)
    assert npu.Native(program, 1).run(np.float32(1e19) * np.sign(image))["y"].tolist() == [[[[np.float32(1e19)] * 4]]]
    # a product saturates first, so any finite value goes
    product = program_of((2, 2, 4), chain("x", mul("m"), writes="y"), matrices={"m": identity(4)})
    assert npu.Native(product, 1).run(image)["y"].tolist() == np.full(image.shape, 127 / 64 * 2.0**48).tolist()


def test_a_normalised_image_enters_by_rows_too():
    """What is done to the image before its first product is no obstacle: the tensor's one exponent is taken then."""
    graph = model(
        [node("Mul", "x g", "s"), node("Conv", "s w", "y", pads=[1, 1, 1, 1])],
        [1, 3, 8, 8],
        {"g": np.float32([0.5]), "w": np.random.default_rng(0).normal(0, 1, (8, 3, 3, 3)).astype(np.float32)},
    )
    program = npu.compile(graph, fmt="msfp16")
    image = np.random.default_rng(1).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    expected = npu.reference.run(program, image)["y"]
    for isa in AVAILABLE:
        assert npu.Native(program, 2, isa=isa).run(image)["y"].tobytes() == expected.tobytes()


def test_windows_of_any_number_of_positions():
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (8, 5, 31, 31)).astype(np.float32)
    graph = model([node("Conv", "x w", "y", pads=[15] * 4)], [1, 5, 6, 40], {"w": weights})
    program = npu.compile(graph, fmt="msfp16")
    image = rng.normal(0, 1, (1, 5, 6, 40)).astype(np.float32)
    expected = npu.reference.run(program, image)["y"]
    for isa in AVAILABLE:
        assert npu.Native(program, 2, isa=isa).run(image)["y"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("isa", AVAILABLE)
@pytest.mark.parametrize("op", ["v_sigmoid", "v_silu"])
def test_exponentials_near_zero_and_far_from_it(op, isa):
    """Each pixel's largest value says which way its sixteen values go; both ways give the same bits."""
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (1, 60, 60, 16)).astype(np.float32)
    image *= np.repeat(np.float32([1e-6, 1, 30, 68.9, 69, 69.1, 80, 104, 112, 1000]), 360).reshape(1, 60, 60, 1)
    image[:, ::7, :, 3] = np.float32(-69)
    image[:, ::5, :, 5] = np.nextafter(np.float32(69), np.float32(0))
    program = program_of((60, 60, 16), chain("x", Instruction(op), writes="y"))
    found = npu.Native(program, 2, isa=isa).run(image)["y"]
    assert found.tobytes() == npu.reference.run(program, image)["y"].tobytes()
