import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError, UnsupportedError
from amlrealtimeai.npu.compare import first_difference
from amlrealtimeai.npu.native import layout
from tests.npu.traced import traced_run

AVAILABLE = npu.kernel_info()["available"]


def run_of(fmt):
    return traced_run("resnet50", 224, fmt)


@pytest.fixture
def traced():
    return run_of("bw_cnn")


@pytest.mark.parametrize("fmt", ["msfp12", "msfp16", "bw_cnn"])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("isa", AVAILABLE)
def test_every_layer_of_resnet50_has_the_bits_of_the_reference(fmt, isa, threads, monkeypatch):
    monkeypatch.setenv("AMLREALTIMEAI_ISA", isa)
    program, image, expected = run_of(fmt)
    native = npu.Native(program, threads=threads, keep_tensors=True)
    assert native.isa == isa
    assert first_difference(program, expected, native.run(image)) is None
    # with memory shared between layers, as it is used
    fast = npu.Native(program, threads=threads).run(image)
    assert np.array_equal(fast["features"].view(np.int32), expected["features"].view(np.int32))


def small_network(rng, channels, outputs, size, kernel, stride, pad, dilation, signed, residual):
    """image -> 1x1 -> (relu) -> conv -> (+ residual) -> max pool, average pool."""
    height, width = size

    def weights(*shape):
        return numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), f"w{len(initializers)}")

    initializers: list[onnx.TensorProto] = []
    initializers += [weights(channels, 3, 1, 1)]
    initializers += [weights(outputs, channels, kernel, kernel)]
    initializers += [weights(outputs)]
    initializers += [weights(outputs, channels, 1, 1)]
    nodes = [helper.make_node("Conv", ["image", "w0"], ["a"], "first")]
    nodes += [] if signed else [helper.make_node("Relu", ["a"], ["b"], "relu")]
    x = "a" if signed else "b"
    window = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2}
    nodes += [helper.make_node("Conv", [x, "w1", "w2"], ["c"], "second", **window)]
    out = "c"
    if residual:
        crop = {"strides": [stride] * 2}
        nodes += [helper.make_node("Conv", [x, "w3"], ["side"], "side", **crop)]
        nodes += [
            helper.make_node("Add", ["c", "side"], ["sum"], "add"),
            helper.make_node("Relu", ["sum"], ["d"], "r2"),
        ]
        out = "d"
    nodes += [helper.make_node("MaxPool", [out], ["pooled"], "pool", kernel_shape=[2, 2], strides=[1, 1])]
    nodes += [helper.make_node("GlobalAveragePool", ["pooled"], ["mean"], "mean")]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, outputs, 1, 1])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@settings(max_examples=60)
@given(data=st.data())
def test_any_small_network_in_any_format_has_the_bits_of_the_reference(data):
    draw = data.draw
    kernel, stride = draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    pad = dilation * (kernel - 1) // 2
    residual = draw(st.booleans()) and kernel % 2 == 1
    model = small_network(
        np.random.default_rng(draw(st.integers(0, 1000))),
        draw(st.integers(1, 70)),
        draw(st.integers(1, 70)),
        (draw(st.integers(6, 17)), draw(st.integers(6, 17))),
        kernel,
        stride,
        pad,
        dilation,
        draw(st.booleans()),
        residual,
    )
    fmt = npu.BlockFormat(4 * draw(st.integers(1, 40)), draw(st.integers(1, 7)), draw(st.sampled_from([5, 8])))
    try:
        program = npu.compile(model, fmt=fmt)
    except InvalidInputError:
        return  # the window did not fit the drawn size
    image = np.random.default_rng(7).normal(0, 50, (2, *program.inputs[0][1][1:])).astype(np.float32)
    expected = npu.reference.run(program, image, trace=True)
    for isa in AVAILABLE:
        got = npu.Native(program, threads=draw(st.integers(1, 4)), keep_tensors=True, isa=isa).run(image)
        assert first_difference(program, expected, got) is None


def test_a_mismatch_is_reported_with_its_place_and_bits(traced):
    program, _, expected = traced
    chain = program.chains[5]
    broken = dict(expected)
    broken[chain.writes] = expected[chain.writes].copy()
    broken[chain.writes][0, 3, 4, 17] = 1.5
    report = first_difference(program, expected, broken)
    assert report is not None
    assert f"chain 5 ({chain.name}): 1 of {broken[chain.writes].size} values" in report
    assert "image 0, y 3, x 4, channel 17" in report
    assert "0x3fc00000 = +12582912 * 2**-23" in report


def test_many_engines_and_many_threads_give_one_answer(traced):
    program, image, expected = traced
    engines = [npu.Native(program, threads=2) for _ in range(2)]
    wrong = []

    def work(engine):
        for _ in range(3):
            if not np.array_equal(engine.run(image)["features"], expected["features"]):
                wrong.append(engine)

    workers = [threading.Thread(target=work, args=(engines[i % 2],)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.fixture
def engine_and_thread(traced):
    """An engine of two threads, and the number of the one that it has started."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs Linux and two CPUs")
    before = set(Path("/proc/self/task").iterdir())
    engine = npu.Native(traced[0], threads=2)
    (started,) = set(Path("/proc/self/task").iterdir()) - before
    return engine, int(started.name)


def test_a_thread_stays_off_the_callers_cpu_during_a_run_only(traced, engine_and_thread):
    engine, thread = engine_and_thread
    everywhere, seen = os.sched_getaffinity(0), set()
    caller = threading.Thread(target=lambda: [engine.run(traced[1]) for _ in range(20)])
    caller.start()
    while caller.is_alive():
        seen.add(len(os.sched_getaffinity(thread)))
    caller.join()
    assert seen >= {len(everywhere) - 1}
    assert os.sched_getaffinity(thread) == everywhere


def test_a_thread_whose_cpus_were_chosen_keeps_them(traced, engine_and_thread):
    engine, thread = engine_and_thread
    chosen = {max(os.sched_getaffinity(0))}
    os.sched_setaffinity(thread, chosen)
    engine.run(traced[1])
    assert os.sched_getaffinity(thread) == chosen


def test_a_batch_is_its_images_one_by_one(traced):
    program, image, expected = traced
    batch = np.concatenate([image, image[:, ::-1], image])
    features = npu.Native(program, threads=2).run(batch)["features"]
    assert np.array_equal(features[0], expected["features"][0])
    assert np.array_equal(features[2], features[0])
    assert not np.array_equal(features[1], features[0])


def test_engines_give_their_memory_back(traced):
    import resource

    program, image, _ = traced

    def megabytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

    npu.Native(program, threads=2).run(image)
    gc.collect()
    before, threads = megabytes(), len(list(Path("/proc/self/task").iterdir()))
    for _ in range(8):
        npu.Native(program, threads=2).run(image)
    gc.collect()
    assert megabytes() - before < 60  # one engine of ResNet-50 holds about 35
    assert len(list(Path("/proc/self/task").iterdir())) == threads  # native threads, which Python does not count


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            np.zeros((1, 224, 224, 4), np.float32),
            r"expected float32 \[n >= 1, 224, 224, 3\], got float32 \[1, 224, 224, 4\]",
        ),
        (np.zeros((1, 224, 224, 3), np.float64), "got float64"),
        (np.zeros((0, 224, 224, 3), np.float32), "n >= 1"),
        (np.full((1, 224, 224, 3), np.nan, np.float32), "NaN or infinity"),
    ],
)
def test_bad_input_is_refused_and_the_engine_goes_on(traced, image, said):
    program, good, expected = traced
    native = npu.Native(program, threads=1)
    with pytest.raises(InvalidInputError, match=said):
        native.run(image)
    assert np.array_equal(native.run(good)["features"], expected["features"])


def test_unknown_instruction_sets_and_thread_counts_are_refused(traced, monkeypatch):
    for threads in (0, 65, 1.5, "2"):
        with pytest.raises(InvalidInputError, match=rf"1\.\.64, got {threads!r}"):
            npu.Native(traced[0], threads=threads)
    with pytest.raises(InvalidInputError, match=r"expected a Program \(npu\.compile, npu\.load\), got str"):
        npu.Native("model.npu")
    monkeypatch.setenv("AMLREALTIMEAI_ISA", "mmx")
    with pytest.raises(InvalidInputError, match=r"mmx: expected one of .*generic"):
        npu.kernel_info()


def test_the_kernel_builds_from_nothing_and_names_a_missing_compiler(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from amlrealtimeai.npu.native import build\n"
        "build._HERE = pathlib.Path(sys.argv[1])\n"
        "print(build.library_path())\n"
    )
    # what the compiler remembers of these sources stays in use
    known = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zig"
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(known), **os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    built = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert Path(built.stdout.strip()).stat().st_size > 50_000, built.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".build-")] == []
    hidden = tmp_path / "hidden"
    (hidden / "ziglang").mkdir(parents=True)
    (hidden / "ziglang" / "__main__.py").write_text("raise SystemExit('no compiler here')\n")
    (hidden / "ziglang" / "__init__.py").write_text("")
    environment |= {"PYTHONPATH": str(hidden), "XDG_CACHE_HOME": str(hidden)}
    failed = subprocess.run(
        [sys.executable, "-c", script, str(hidden)], capture_output=True, text=True, env=environment
    )
    assert "could not be compiled; expected the PyPI package ziglang" in failed.stderr
    assert list(hidden.glob("npu_kernel*")) == []


def test_a_saved_and_loaded_program_gives_the_same_bits(traced, tmp_path):
    program, image, expected = traced
    program.save(tmp_path / "resnet50.npu")
    loaded = npu.load(tmp_path / "resnet50.npu")  # names its tensors in another order
    assert np.array_equal(npu.Native(loaded, threads=2).run(image)["features"], expected["features"])


@pytest.mark.parametrize("name", ["version", "tensor_bytes", "step_bytes", "plan_bytes", "step_kinds"])
def test_a_library_with_other_structures_is_refused_when_it_is_opened(monkeypatch, name):
    monkeypatch.setitem(layout._EXPECTED, name, layout._EXPECTED[name] + 1)
    layout.library.cache_clear()
    with pytest.raises(UnsupportedError, match=rf"expected {name} \d+, found \d+; delete the file"):
        layout.library()
    monkeypatch.undo()
    layout.library()


@pytest.mark.parametrize("images", [16, 17, 37])
def test_images_of_a_long_batch_have_the_answers_that_they_have_alone(images):
    """The library is called for some of them at a time."""
    program = npu.compile(
        small_network(np.random.default_rng(3), 128, 36, (7, 13), 1, 1, 0, 1, True, False), fmt="msfp16"
    )
    batch = np.random.default_rng(4).normal(0, 50, (images, *program.inputs[0][1][1:])).astype(np.float32)
    native = npu.Native(program, 2)
    together = native.run(batch)
    for number in range(images):
        for name, alone in native.run(batch[number : number + 1]).items():
            assert together[name][number].tobytes() == alone[0].tobytes(), (name, number)
