import dataclasses
import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amlrealtimeai import npu
from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, NotFoundError, StoreError
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Window
from tests.npu.graphs import integers, model, node


def build() -> Program:
    graph = model(
        [
            node("Conv", "x w b", "a", pads=[1, 1, 1, 1]),
            node("Relu", "a", "r"),
            node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", "p v", "c"),
            node("Add", "c p", "s"),
            node("GlobalAveragePool", "s", "g"),
            node("Flatten", "g", "y"),
        ],
        ["n", 3, 4, 4],
        {"w": integers(1, 8, 3, 3, 3), "b": integers(2, 8), "v": integers(3, 8, 8, 1, 1)},
        outputs=("y", "s"),
    )
    return npu.compile(graph, name="little")


PROGRAM = build()
X = integers(4, 2, 3, 4, 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("program") / "little.npu"
    PROGRAM.save(path)
    return path.read_bytes()


def test_a_program_survives_its_file(tmp_path):
    PROGRAM.save(tmp_path / "p.npu")
    loaded = npu.load(str(tmp_path / "p.npu"))
    assert loaded.digest == PROGRAM.digest
    assert loaded.listing() == PROGRAM.listing()
    assert loaded.config == PROGRAM.config
    assert loaded.chains == PROGRAM.chains
    assert (loaded.inputs, loaded.outputs) == (PROGRAM.inputs, PROGRAM.outputs)
    before, after = npu.reference.run(PROGRAM, X), npu.reference.run(loaded, X)
    assert [before[name].tobytes() for name in before] == [after[name].tobytes() for name in after]


def test_the_same_program_gives_the_same_bytes(tmp_path, data):
    build().save(tmp_path / "again.npu")
    assert (tmp_path / "again.npu").read_bytes() == data
    assert list(tmp_path.iterdir()) == [tmp_path / "again.npu"]
    with zipfile.ZipFile(tmp_path / "again.npu") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_digest_depends_on_everything():
    other = [
        dataclasses.replace(PROGRAM, name="other"),
        dataclasses.replace(PROGRAM, config=dataclasses.replace(PROGRAM.config, tiles=9)),
        dataclasses.replace(PROGRAM, vectors={name: v + 1 for name, v in PROGRAM.vectors.items()}),
        dataclasses.replace(PROGRAM, output_ports=PROGRAM.output_ports[:1]),
        dataclasses.replace(PROGRAM, chains=(dataclasses.replace(PROGRAM.chains[0], name="z"), *PROGRAM.chains[1:])),
    ]
    assert len({PROGRAM.digest, *(program.digest for program in other)}) == 6


def test_a_file_cut_anywhere_is_refused(tmp_path, data):
    path = tmp_path / "cut.npu"
    for length in range(0, len(data), 49):
        path.write_bytes(data[:length])
        with pytest.raises(InvalidInputError, match=r"cut\.npu"):
            npu.load(path)


@settings(max_examples=400)
@given(choice=st.data())
def test_a_changed_file_is_refused_or_means_the_same(tmp_path_factory, data, choice):
    """Some bytes of a zip say nothing (dates, attributes): a change there may load, as the very same program."""
    changed = bytearray(data)
    for _ in range(choice.draw(st.integers(1, 3))):
        changed[choice.draw(st.integers(0, len(data) - 1))] ^= 1 << choice.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "changed.npu"
    path.write_bytes(changed)
    try:
        assert npu.load(path).digest == PROGRAM.digest
    except InvalidInputError as error:
        assert "changed.npu" in str(error)


def rewritten(data: bytes, change, compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with `change` applied to its {name: bytes}."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def set_header(**values):
    def change(members):
        document = json.loads(members["program.json"])
        members["program.json"] = json.dumps({**document, **values}).encode()

    return change


def pickled(members):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    members["vectors/a_node/bias.npy"] = buffer.getvalue()


def other_bias(members):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(8, np.float32))
    members["vectors/a_node/bias.npy"] = buffer.getvalue()


FOREIGN = {
    "nothing inside": (lambda members: members.clear(), "not a whole NPU program file"),
    "another format": (set_header(format="else"), r"expected format \('amlrealtimeai.npu', 1\), found \('else', 1\)"),
    "a later version": (set_header(format_version=2), r"found \('amlrealtimeai.npu', 2\)"),
    "another digest": (set_header(digest="0"), "does not have the digest that it states"),
    "other values": (other_bias, "does not have the digest"),
    "an array missing": (
        lambda members: members.pop("vectors/a_node/bias.npy"),
        "digest|not a whole",
    ),
    "a header of another kind": (lambda members: members.update({"program.json": b"[1]"}), "not a whole"),
    "a header without end": (lambda members: members.update({"program.json": b"[" * 100_000}), "damaged|not a whole"),
    "a large header": (lambda members: members.update({"program.json": b" " * (16 * 2**20 + 1)}), "larger than 16 MiB"),
    "a pickle": (pickled, "not a whole|allow_pickle"),
    "no array": (lambda members: members.update({"vectors/a_node/bias.npy": b"junk"}), "not a whole"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_archives_of_something_else_are_refused(tmp_path, data, case):
    change, message = FOREIGN[case]
    path = tmp_path / "foreign.npu"
    path.write_bytes(rewritten(data, change))
    with pytest.raises(InvalidInputError, match=message):
        npu.load(path)


def test_a_compressed_archive_is_refused(tmp_path, data):
    (tmp_path / "deflated.npu").write_bytes(rewritten(data, lambda members: None, zipfile.ZIP_DEFLATED))
    with pytest.raises(InvalidInputError, match="expected a stored archive"):
        npu.load(tmp_path / "deflated.npu")


def test_paths_that_are_no_file(tmp_path):
    with pytest.raises(NotFoundError, match="no program file at"):
        npu.load(tmp_path / "none.npu")
    with pytest.raises(AmlRealtimeAiError):
        npu.load(tmp_path)
    with pytest.raises(StoreError, match="cannot write the program"):
        PROGRAM.save(tmp_path / "no" / "p.npu")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="it is no file, and stays"):
        PROGRAM.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_listing():
    assert PROGRAM.listing().splitlines() == [
        "program little on bw_a10, bw_cnn: blocks of 128, 1 sign + 5 mantissa bits, "
        "5-bit shared exponent (6.04 bits per value)",
        "input  x [1, 3, 4, 4]",
        "",
        "chain 0  a_node",
        "    v_rd   x                          4x4x3",
        "    mv_mul a_node  [3x3 pad 1,1,1,1]  3 -> 8, one block per filter row, one exponent for the tensor",
        "    vv_add a_node/bias",
        "    v_relu",
        "    v_wr   r                          4x4x8",
        "",
        "chain 1  p_node",
        "    v_rd   r                          4x4x8",
        "    v_max  [2x2 stride 2x2]",
        "    v_wr   p                          2x2x8",
        "",
        "chain 2  c_node",
        "    v_rd   p                          2x2x8",
        "    mv_mul c_node  [1x1]              8 -> 8, 1 block of 8",
        "    vv_add p",
        "    v_wr   s                          2x2x8",
        "",
        "chain 3  g_node",
        "    v_rd   s                          2x2x8",
        "    v_avg  [2x2]",
        "    v_wr   g                          1x1x8",
        "",
        "output y [1, 8]",
        "output s [1, 8, 2, 2]",
    ]
    assert "chain 2  c_node" in PROGRAM.listing(slice(2, 3))
    assert "chain 1  p_node" not in PROGRAM.listing(slice(2, 3))


def chain(*steps: Instruction, name: str = "a_node") -> tuple[Chain, ...]:
    return (Chain(name, steps), *PROGRAM.chains[1:])


RD, WR, END = Instruction("v_rd", ("x",)), Instruction("v_wr", ("r",)), Instruction("v_wr", ("z",))
A = PROGRAM.matrices["a_node"]
MUL = Instruction("mv_mul", ("a_node",), Window((3, 3), pads=(1, 1, 1, 1)))
BROKEN = {
    "no input": ({"input_ports": ()}, "expected one input, got 0"),
    "no output": ({"output_ports": ()}, "no output"),
    "layout": ({"output_ports": (Port("y", "g", "hwc"),)}, "port y has layout 'hwc'"),
    "port tensor": ({"output_ports": (Port("y", "ghost"),)}, "port y has no tensor"),
    "flat port": ({"output_ports": (Port("y", "s", "nc"),)}, "port y is flat, its tensor s is not"),
    "tensor": ({"tensors": {**PROGRAM.tensors, "r": (4, 0, 8)}}, r"tensor r has shape \(4, 0, 8\)"),
    "huge tensor": ({"tensors": {**PROGRAM.tensors, "q": (32768, 32768, 32768)}}, "tensor q has shape"),
    "written shape": ({"tensors": {**PROGRAM.tensors, "g": (1, 1, 9)}}, r"g_node makes \(1, 1, 8\), not what g is"),
    "vector": ({"vectors": {"a_node/bias": np.float32([np.nan] * 8)}}, "a_node/bias is not one-dimensional finite"),
    "bias length": ({"vectors": {"a_node/bias": np.zeros(9, np.float32)}}, "vv_add of 9 values with 8 channels"),
    "no matrix": ({"matrices": {"c_node": PROGRAM.matrices["c_node"]}}, "no matrix a_node"),
    "no write": ({"chains": chain(RD, MUL)}, "does not read first and write last"),
    "read inside": ({"chains": chain(RD, RD, WR)}, "reads or writes in the middle"),
    "two products": ({"chains": chain(RD, MUL, MUL, WR)}, "multiplies twice"),
    "unwritten": ({"chains": chain(Instruction("v_rd", ("s",)), MUL, WR)}, "reads s before it is written"),
    "twice written": ({"chains": (*PROGRAM.chains, PROGRAM.chains[0])}, "writes r again"),
    "operation": ({"chains": chain(RD, Instruction("v_tanh"), WR)}, "unknown operation 'v_tanh'"),
    "operands": ({"chains": chain(RD, Instruction("v_relu", ("x",)), WR)}, "v_relu has operands"),
    "no window": ({"chains": chain(RD, Instruction("mv_mul", ("a_node",)), WR)}, "mv_mul has no window"),
    "kernel": ({"chains": chain(RD, Instruction("mv_mul", ("a_node",), Window((1, 3))), WR)}, "not .1, 3."),
    "stride": ({"chains": chain(RD, Instruction("v_max", (), Window((2, 2), (0, 1))), WR)}, "v_max has window"),
    "fit": ({"chains": chain(RD, Instruction("v_max", (), Window((5, 1))), WR)}, "does not fit 4x4"),
    "pads": ({"chains": chain(RD, Instruction("v_max", (), Window((2, 2), pads=(2, 0, 0, 0))), WR)}, "has pads"),
    "padded mean": (
        {"chains": chain(RD, Instruction("v_avg", (), Window((2, 2), pads=(2, 0, 0, 0))), WR)},
        "an average over nothing",
    ),
    "name of a port": ({"output_ports": (dataclasses.replace(PROGRAM.output_ports[0], name=["y"]),)}, r"got \['y'\]"),
    "equal outputs": ({"output_ports": (PROGRAM.output_ports[0],) * 2}, "outputs of different names"),
    "no tiles": ({"config": dataclasses.replace(PROGRAM.config, tiles=0)}, "the configuration's tiles is 0"),
    "half a lane": ({"config": dataclasses.replace(PROGRAM.config, lanes=0.5)}, "the configuration's lanes is 0.5"),
    "sizes": ({"chains": (*PROGRAM.chains, Chain("n", (Instruction("v_rd", ("r", "p")), END)))}, "different sizes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_inconsistent_program_is_refused(case):
    changes, message = BROKEN[case]
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(PROGRAM, **changes)


MATRICES = {
    "blocking": ({"blocking": "columns"}, "has blocking 'columns'"),
    "kernel": ({"kernel": (0, 3)}, "a_node has the sizes"),
    "shape": ({"mantissas": A.mantissas[:, :2]}, "expected"),
    "exponents": ({"exponents": A.exponents[:4]}, "exponents do not fit mantissas"),
    "types": ({"exponents": A.exponents.astype(np.int64)}, "wrong types"),
    "mantissa": ({"mantissas": np.full_like(A.mantissas, -32)}, "mantissa 32 is too large"),
    "range": ({"exponents": A.exponents + 17}, "exponents .* are outside"),
}


@pytest.mark.parametrize("case", MATRICES)
def test_an_inconsistent_matrix_is_refused(case):
    changes, message = MATRICES[case]
    matrices: dict[str, Matrix] = {**PROGRAM.matrices, "a_node": dataclasses.replace(A, **changes)}
    with pytest.raises(InvalidInputError, match=message):
        dataclasses.replace(PROGRAM, matrices=matrices)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), r"x: expected float32 \[n >= 1, 3, 4, 4\], got float32 \[1, 4, 4, 3\]"),
        (np.zeros((1, 3, 4, 4)), "got float64"),
        (np.zeros((0, 3, 4, 4), np.float32), r"got float32 \[0, 3, 4, 4\]"),
        (np.full((1, 3, 4, 4), np.nan, np.float32), "expected finite values"),
    ],
)
def test_inputs_are_checked(x, message):
    with pytest.raises(InvalidInputError, match=message):
        npu.reference.run(PROGRAM, x)
