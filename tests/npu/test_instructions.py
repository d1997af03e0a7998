"""What each instruction of the vector units computes, and that a program with all of them survives its file."""

import dataclasses

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.config import configs
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Window

WHOLE = Window((1, 1))


def run(steps: list[Instruction], shape: tuple[int, int, int], x: np.ndarray, **parts) -> np.ndarray:
    """What one chain of `steps` makes of x; `parts` are fields of the program, `tensors` the shape of the result."""
    chain = Chain("c", (Instruction("v_rd", ("x",)), *steps, Instruction("v_wr", ("y",))))
    tensors = {"x": x.shape, "y": shape}
    ports = (Port("x", "x"),), (Port("y", "y"),)
    config = configs["bw_a10"].with_format("msfp16")
    program = Program("p", config, *ports, tensors, (chain,), **parts)
    assert np.array_equal(npu.reference.run(program, x[None])["y"], npu.reference.run(reload(program), x[None])["y"])
    return npu.reference.run(program, x[None])["y"][0]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def reload(program: Program) -> Program:
    program.save("p.npu")
    loaded = npu.load("p.npu")
    assert (loaded.digest, loaded.listing()) == (program.digest, program.listing())
    return loaded


def image(*rows: list[list[float]]) -> np.ndarray:
    return np.float32(rows)


def test_depthwise_filters_sum_their_own_channel_in_row_order():
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    filters = np.float32([[[1, 10, 0, 2]], [[100, 0, 3, 0]]])  # 2 x 1 taps, outputs 0 and 1 read channel 0
    found = run(
        [Instruction("v_filter", ("f",), Window((2, 1), pads=(1, 0, 0, 0)))], (2, 3, 4), x, vectors={"f": filters}
    )
    assert found[0, 1].tolist() == [200, 0, 9, 0]
    assert found[1, 2].tolist() == [1 * 4 + 100 * 10, 10 * 4, 3 * 11, 2 * 5]


def test_depthwise_sums_are_rounded_one_by_one():
    """2**24 + 1 - 2**24 is 0 from left to right, and 1 in any order that adds the large ones first."""
    x = image([[2.0**24], [1], [-(2.0**24)]])
    ones = np.ones((1, 3, 1), np.float32)
    assert run([Instruction("v_filter", ("f",), Window((1, 3)))], (1, 1, 1), x, vectors={"f": ones}).tolist() == [[[0]]]


def test_a_grouped_product_keeps_its_blocks_inside_the_groups():
    """Channels 0..2 and 3..5 are groups: their blocks have exponents of their own, though one of 16 would hold all."""
    x = np.float32([1, 2, 4, 1000, 2000, 4000]).reshape(1, 1, 6)
    ones = np.zeros((2, 1, 1, 4), np.int8)
    ones[:, :, :, :3] = 64
    matrix = Matrix(ones, np.zeros((2, 1, 1), np.int32), (1, 1), 3, groups=2)
    found = run([Instruction("mv_mul", ("m",), WHOLE)], (1, 1, 2), x, matrices={"m": matrix})
    # 1000, 2000, 4000 in steps of 32: 992 (31.25 is rounded to 31), 2016 (62.5 to even: 62 -> 1984), 4000
    assert found.tolist() == [[[7, 992 + 1984 + 4000]]]


def test_operands_of_size_one_are_spread():
    x = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    steps = [
        Instruction("v_rd", ("x",)),
        Instruction("v_max", (), Window((2, 2))),
        Instruction("v_wr", ("top",)),
    ]
    chains = (
        Chain("a", tuple(steps)),
        Chain("b", (Instruction("v_rd", ("x",)), Instruction("vv_mul", ("top",)), Instruction("v_wr", ("y",)))),
        Chain("c", (Instruction("v_rd", ("y",)), Instruction("vv_add", ("top",)), Instruction("v_wr", ("z",)))),
    )
    tensors = {"x": (2, 2, 2), "top": (1, 1, 2), "y": (2, 2, 2), "z": (2, 2, 2)}
    program = Program("p", configs["bw_a10"], (Port("x", "x"),), (Port("z", "z"),), tensors, chains)
    expected = x * np.float32([6, 7]) + np.float32([6, 7])
    np.testing.assert_array_equal(npu.reference.run(reload(program), x[None])["z"][0], expected)


ACTIVATIONS = {
    "v_clip": (Instruction("v_clip", (), None, (-1, 6)), [-1, -1, 0, 0.5, 6]),
    "v_clip from below": (Instruction("v_clip", (), None, (-np.inf, 0.25)), [-2, -1, 0, 0.25, 0.25]),
    "v_threshold": (Instruction("v_threshold", (), None, (0.5,)), [0, 0, 0, 0, 8]),
    "v_prelu": (Instruction("v_prelu", ("slope",)), [-1, -0.5, 0, 0.5, 8]),
    "v_hsigmoid": (Instruction("v_hsigmoid", (), None, (0.25, 0.5)), [0, 0.25, 0.5, 0.625, 1]),
    "v_hswish": (Instruction("v_hswish", (), None, (0.25, 0.5)), [0, -0.25, 0, 0.3125, 8]),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations(case):
    step, expected = ACTIVATIONS[case]
    x = image([[-2], [-1], [0], [0.5], [8]])
    assert run([step], (1, 5, 1), x, vectors={"slope": np.float32([0.5])}).reshape(-1).tolist() == expected


def test_an_average_counts_what_it_says():
    x = image([[4], [8]], [[12], [16]])
    step = Instruction("v_avg", (), Window((2, 2), (2, 2), pads=(1, 1, 1, 1)))
    assert run([step], (2, 2, 1), x).reshape(-1).tolist() == [4, 8, 12, 16]
    counted = dataclasses.replace(step, values=(1, 1, 1, 1))
    assert run([counted], (2, 2, 1), x).reshape(-1).tolist() == [1, 2, 3, 4]
    above = dataclasses.replace(step, values=(1, 0, 0, 0))
    assert run([above], (2, 2, 1), x).reshape(-1).tolist() == [2, 4, 12, 16]


def test_picking_reorders_repeats_and_fills():
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    lists = {name: np.array(v, np.int32) for name, v in {"r": [-1, 1], "k": [2, 2, 0, -1]}.items()}
    found = run([Instruction("v_pick", ("r", "", "k"), None, (7,))], (2, 2, 4), x, indices=lists)
    assert found.tolist() == [[[7] * 4] * 2, [[8, 8, 6, 7], [11, 11, 9, 7]]]


def test_blending_and_reshaping():
    x = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    lists = {"i": np.int32([0, 0, 1]), "j": np.int32([1, 1, 1])}
    parts = {"indices": lists, "vectors": {"v": np.float32([0, 0.5, 1])}}
    assert run([Instruction("v_blend", ("i", "j", "v"), None, (0,))], (3, 2, 1), x, **parts).reshape(-1).tolist() == [
        *(0, 1),
        *(1, 2),
        *(2, 3),
    ]
    assert run([Instruction("v_blend", ("i", "j", "v"), None, (1,))], (2, 3, 1), x, **parts)[0].tolist() == [
        [0],
        [0.5],
        [1],
    ]
    assert run([Instruction("v_shape", (), None, (1, 1, 4))], (1, 1, 4), x).tolist() == [[[0, 1, 2, 3]]]


def test_ports_of_any_order_and_shape():
    x = np.arange(12, dtype=np.float32)
    chain = Chain("c", (Instruction("v_rd", ("x",)), Instruction("v_relu"), Instruction("v_wr", ("y",))))
    ends = (Port("flat", "y", "nchw", (12,)), Port("boxes", "y", "nhwc", (2, 6)), Port("across", "y", "nwch"))
    tensors = {"x": (2, 2, 3), "y": (2, 2, 3)}
    program = reload(Program("p", configs["bw_a10"], (Port("x", "x", "nchw", (12,)),), ends, tensors, (chain,)))
    assert program.inputs == [("x", (1, 12))]
    assert program.outputs == [("flat", (1, 12)), ("boxes", (1, 2, 6)), ("across", (1, 2, 3, 2))]
    found = npu.reference.run(program, x[None])
    nchw = x.reshape(1, 3, 2, 2)
    assert found["flat"].tolist() == [x.tolist()]
    assert found["boxes"].tolist() == nchw.transpose(0, 2, 3, 1).reshape(1, 2, 6).tolist()
    assert found["across"].tolist() == nchw.transpose(0, 3, 1, 2).tolist()


BROKEN = {
    "fill": (Instruction("v_pick", ("r", "", "")), "v_pick has values"),
    "beyond": (Instruction("v_pick", ("", "", "r"), None, (0,)), "list r holds 0..1, expected positions below 1"),
    "no list": (Instruction("v_pick", ("q", "", ""), None, (0,)), "no list q"),
    "shape": (Instruction("v_shape", (), None, (1, 1, 3)), r"v_shape \(1, 1, 3\)"),
    "fraction": (Instruction("v_shape", (), None, (0.5, 2, 4)), "v_shape"),
    "exponent": (Instruction("v_lrn", (), None, (3, 1, 0.6, 1)), "v_lrn has values"),
    "infinite": (Instruction("v_threshold", (), None, (np.inf,)), "v_threshold has values"),
    "nan": (Instruction("v_clip", (), None, (np.nan, 1)), "v_clip has values"),
    "no filters": (Instruction("v_filter", ("f",), WHOLE), "filters f"),
    "blend": (Instruction("v_blend", ("r", "r", "v"), None, (0,)), "lists of different lengths"),
    "slopes": (Instruction("v_prelu", ("x",)), "v_prelu x does not fit"),
    "window": (Instruction("v_relu", (), WHOLE), "v_relu has a window"),
    "counted": (Instruction("v_avg", (), WHOLE, (1, 0, 0, 0)), "v_avg has values"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_instructions_that_do_not_fit_are_refused(case):
    step, message = BROKEN[case]
    parts = {"indices": {"r": np.int32([0, 1])}, "vectors": {"v": np.float32([1]), "f": np.ones((2, 1, 1), np.float32)}}
    with pytest.raises(InvalidInputError, match=message):
        run([step], (2, 2, 1), np.zeros((2, 2, 1), np.float32), **parts)


def test_names_that_no_file_can_hold_are_refused():
    steps = (Instruction("v_rd", ("x",)), Instruction("v_relu"))
    for name, said in (("a\0b", "a NUL character"), ("a" * 70_000, "70000 characters")):
        chain = Chain("c", (*steps, Instruction("v_wr", (name,))))
        with pytest.raises(InvalidInputError, match=f"the name 'a.* has {said}; expected at most 1000"):
            Program(
                "p",
                configs["bw_a10"],
                (Port("x", "x"),),
                (Port("y", name),),
                dict.fromkeys(("x", name), (1, 1, 1)),
                (chain,),
            )
