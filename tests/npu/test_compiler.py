import numpy as np
import onnx
import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.program import Instruction
from tests.npu.graphs import EXACT, check_exact, floats, integers, model, node, operations

_BN = {"s": np.float32([2, 3]), "o": np.float32([5, -1]), "m": np.float32([1, -2]), "v": np.float32([3, 0])}


def norm(inputs: str, output: str) -> onnx.NodeProto:
    return node("BatchNormalization", f"{inputs} s o m v", output, epsilon=1.0)


def test_a_1x1_convolution_by_hand():
    """m = 3: weights [1, 2, 4, -7] have E = 2 and step 1; the input [6.5, 1, -3, 0] becomes [6, 1, -3, 0]."""
    graph = model(
        [node("Conv", "x w b", "y")],
        [1, 8, 1, 1],
        {"w": np.float32([1, 2, 4, -7, 1, 0, 0, 0]).reshape(1, 8, 1, 1), "b": np.float32([0.25])},
    )
    program = npu.compile(graph, fmt=npu.BlockFormat(4, 3, 8))
    assert program.chains[0].name == "y_node"
    assert [str(i) for i in program.chains[0].instructions] == [
        "v_rd   x",
        "mv_mul y_node  [1x1]",
        "vv_add y_node/bias",
        "v_wr   y",
    ]
    matrix = program.matrices["y_node"]
    assert matrix.blocking == "channels"
    assert matrix.mantissas.tolist() == [[[[1, 2, 4, -7], [4, 0, 0, 0]]]]
    assert matrix.exponents.tolist() == [[[2, 0]]]
    x = np.float32([6.5, 1, -3, 0, 0.5, 0, 0, 0]).reshape(1, 8, 1, 1)
    # 6*1 + 1*2 - 3*4 = -4; 4*2**-3 * 4*2**-2 = 0.5; then the bias
    assert npu.reference.run(program, x)["y"].tolist() == [[[[-3.25]]]]


def test_batch_norm_bias_is_folded_in_float64_and_rounded_once():
    """beta + (bias - mean) * gamma / sqrt(7) is -2.40742319408; float32 steps end one bit higher or lower."""
    constants = {"s": [3], "o": [-4.25], "m": [-4.875], "v": [6], "b": [-3.25]}
    vectors = {name: np.float32(values) for name, values in constants.items()}
    graph = model([node("Conv", "x w b", "c"), norm("c", "y")], [1, 4, 1, 1], {**vectors, "w": integers(1, 1, 4, 1, 1)})
    program = npu.compile(graph, fmt=EXACT)
    assert [float(value).hex() for value in program.vectors["c_node/bias"]] == ["-0x1.3426720000000p+1"]


def test_folded_weights_are_rounded_to_float32_once():
    """weight * 11 / sqrt(2) is 65.4999972 steps: in float32 that is 65.5, to even 66.

    Rounding 11 / sqrt(2) to float32 as well gives 65, and so does rounding nothing to float32.
    """
    constants = {"s": np.float32([11]), "o": np.float32([0]), "m": np.float32([0]), "v": np.float32([1])}
    w = np.full((1, 4, 1, 1), float.fromhex("0x1.0d78d2p-3"), np.float32)
    graph = model([node("Conv", "x w", "c"), norm("c", "y")], [1, 4, 1, 1], {**constants, "w": w})
    program = npu.compile(graph, fmt=npu.BlockFormat(4, 7, 8))
    assert program.matrices["c_node"].mantissas.tolist() == [[[[66, 66, 66, 66]]]]
    assert program.matrices["c_node"].exponents.tolist() == [[[0]]]


def test_the_order_of_addition_is_sum_then_bias_then_residual():
    """2**24 + 1 is lost in float32, -2**24 first is not: each order gives another result."""
    w = np.zeros((1, 8, 1, 1), np.float32)
    w[0, [0, 4]] = 1.0
    graph = model(
        [node("Conv", "x w b", "c"), node("Conv", "x v", "r"), node("Add", "c r", "y")],
        [1, 8, 1, 1],
        {"w": w, "v": np.float32([0, 0, 0, 0, 0, 0, 0, 1]).reshape(1, 8, 1, 1), "b": np.float32([-(2.0**24)])},
    )
    program = npu.compile(graph, fmt=npu.BlockFormat(4, 7, 8))
    x = np.float32([2.0**24, 0, 0, 0, 1, 0, 0, 0]).reshape(1, 8, 1, 1)
    # blocks: fl(2**24 + 1) = 2**24, then the bias gives 0; bias first would give 1
    assert npu.reference.run(program, x)["y"].tolist() == [[[[0.0]]]]
    x[0, 4], x[0, 7] = 0, 1
    # sum 2**24, bias -> 0, residual 1 -> 1; residual before the bias would be lost and give 0
    assert npu.reference.run(program, x)["y"].tolist() == [[[[1.0]]]]


def test_convolution_batch_norm_and_relu_are_one_chain():
    graph = model(
        [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), norm("c", "n"), node("Relu", "n", "y")],
        [1, 5, 6, 5],
        {"w": integers(1, 2, 5, 3, 3), "b": np.float32([1, -1]), **_BN},
    )
    program = check_exact(graph, integers(2, 1, 5, 6, 5))
    assert operations(program) == ["rd mv_mul vv_add relu wr"]
    # 5 + (1 - 1) * 2/2 and -1 + (-1 + 2) * 3/1
    assert program.vectors["c_node/bias"].tolist() == [5.0, 2.0]
    assert program.chains[0].writes == "y"


def test_multiply_and_add_after_a_convolution_are_folded():
    constants = {
        "w": integers(3, 2, 3, 1, 1),
        "g": np.float32([2, -3]).reshape(2, 1, 1),
        "a": np.float32([[[[4]], [[5]]]]),
        "d": np.float32(4),
        "z": np.float32([[[1]], [[2]]]),
    }
    nodes = [
        node("Conv", "x w", "c"),
        node("Mul", "g c", "p"),
        node("Add", "p a", "q"),
        node("Div", "q d", "r"),
        node("Sub", "r z", "y"),
    ]
    program = check_exact(model(nodes, ["batch", 3, 4, 4], constants), integers(4, 2, 3, 4, 4, low=-9, high=9))
    assert operations(program) == ["rd mv_mul vv_add wr"]
    assert program.vectors["c_node/bias"].tolist() == [0.0, -0.75]


def test_a_residual_joins_the_convolution_that_is_computed_last():
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "x v", "b"),
        node("Add", "a b", "s"),
        node("Relu", "s", "y"),
    ]
    constants = {"w": integers(5, 4, 5, 1, 1), "v": integers(6, 4, 5, 1, 1)}
    program = check_exact(model(nodes, [1, 5, 3, 3], constants), integers(7, 1, 5, 3, 3))
    assert operations(program) == ["rd mv_mul wr", "rd mv_mul vv_add relu wr"]
    assert program.chains[1].instructions[2] == Instruction("vv_add", ("a",))
    assert [chain.name for chain in program.chains] == ["a_node", "b_node"]


def test_a_value_used_before_and_after_relu_keeps_both():
    nodes = [node("Conv", "x w", "a"), node("Relu", "a", "r"), node("Add", "a r", "y")]
    program = check_exact(model(nodes, [1, 5, 3, 3], {"w": integers(8, 5, 5, 1, 1)}), integers(9, 1, 5, 3, 3))
    assert operations(program) == ["rd mv_mul wr", "rd relu wr", "rd vv_add wr"]


def test_an_intermediate_output_is_not_fused_away():
    nodes = [node("Conv", "x w", "a"), node("Relu", "a", "y")]
    graph = model(nodes, [1, 5, 3, 3], {"w": integers(8, 5, 5, 1, 1)}, outputs=("a", "y"))
    assert operations(check_exact(graph, integers(9, 1, 5, 3, 3))) == ["rd mv_mul wr", "rd relu wr"]


def test_a_tensor_added_to_itself():
    nodes = [node("Conv", "x w", "a"), node("Add", "a a", "y")]
    program = check_exact(model(nodes, [1, 5, 3, 3], {"w": integers(8, 5, 5, 1, 1)}), integers(9, 1, 5, 3, 3))
    assert operations(program) == ["rd mv_mul wr", "rd vv_add wr"]


def test_batch_norm_and_relu_before_a_convolution_lead_its_chain():
    """DenseNet: the concatenation is read by name, normalised in float32, and zero padding comes after that."""
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "a k", "b"),
        node("Concat", "a b", "ab", axis=1),
        norm("ab", "n"),
        node("Relu", "n", "r"),
        node("Conv", "r k2", "c", pads=[1, 1, 1, 1]),
        node("Concat", "ab c", "abc", axis=1),
        node("Relu", "abc", "y"),
    ]
    constants = {
        "w": integers(1, 1, 5, 1, 1),
        "k": integers(4, 1, 1, 1, 1, low=1),
        "k2": integers(5, 4, 2, 3, 3),
        **_BN,
    }
    program = check_exact(model(nodes, [1, 5, 4, 4], constants), integers(6, 1, 5, 4, 4))
    assert operations(program) == ["rd mv_mul wr", "rd mv_mul wr", "rd vv_mul vv_add relu mv_mul wr", "rd relu wr"]
    assert program.chains[2].reads == ("a", "b")
    assert program.chains[3].reads == ("a", "b", "c")
    # gamma / sqrt(variance + 1) = [1, 3]; beta - mean * gain = [4, 5]
    assert program.vectors["n_node/scale"].tolist() == [1.0, 3.0]
    assert program.vectors["n_node/shift"].tolist() == [4.0, 5.0]


def test_a_shared_normalisation_is_written_once():
    nodes = [
        norm("x", "n"),
        node("Relu", "n", "r"),
        node("Conv", "r w", "a"),
        node("Conv", "r k", "b"),
        node("Add", "a b", "y"),
    ]
    constants = {"w": integers(1, 4, 2, 1, 1), "k": integers(2, 4, 2, 1, 1), **_BN}
    program = check_exact(model(nodes, [1, 2, 3, 3], constants), integers(3, 1, 2, 3, 3))
    assert operations(program) == ["rd vv_mul vv_add relu wr", "rd mv_mul wr", "rd mv_mul vv_add wr"]


def test_a_concatenation_that_is_an_output_or_a_residual_is_written():
    nodes = [
        node("Conv", "x w", "a"),
        node("Conv", "x v", "b"),
        node("Concat", "a b", "ab", axis=1),
        node("Conv", "ab k", "c"),
        node("Add", "c ab", "y"),
    ]
    constants = {"w": integers(1, 2, 5, 1, 1), "v": integers(2, 1, 5, 1, 1), "k": integers(3, 3, 3, 1, 1)}
    graph = model(nodes, [1, 5, 2, 2], constants, outputs=("y", "ab"))
    assert operations(check_exact(graph, integers(4, 1, 5, 2, 2)))[2:] == ["rd wr", "rd mv_mul vv_add wr"]


@pytest.mark.parametrize("outputs", [("y", "ab"), ("y",)])
def test_a_concatenation_is_written_for_either_reason(outputs):
    last = node("Relu", "ab", "y") if len(outputs) == 2 else node("Add", "p ab", "y")
    nodes = [node("Conv", "x w", "a"), node("Concat", "a a", "ab", axis=1), node("Conv", "x v", "p"), last]
    constants = {"w": integers(1, 2, 5, 1, 1), "v": integers(2, 4, 5, 1, 1)}
    program = check_exact(model(nodes, [1, 5, 2, 2], constants, outputs=outputs), integers(5, 1, 5, 2, 2))
    assert "rd wr" in operations(program)


def test_a_sum_that_is_used_before_and_after_scaling_is_not_folded():
    nodes = [node("Conv", "x w", "a"), node("Mul", "a k", "m"), node("Add", "a m", "y")]
    program = check_exact(
        model(nodes, [1, 5, 2, 2], {"w": integers(1, 2, 5, 1, 1), "k": np.float32(3)}), integers(4, 1, 5, 2, 2)
    )
    assert operations(program) == ["rd mv_mul wr", "rd vv_mul wr", "rd vv_add wr"]


def test_nodes_that_no_output_needs_are_left_out():
    nodes = [node("Conv", "x w", "y"), node("Sigmoid", "y", "unused")]
    assert operations(check_exact(model(nodes, [1, 5, 2, 2], {"w": integers(1, 2, 5, 1, 1)}), integers(2, 1, 5, 2, 2)))


def test_names_that_meet_are_told_apart():
    first = onnx.helper.make_node("Conv", ["x", "w", "b"], ["same/bias"], name="same")
    second = onnx.helper.make_node("Conv", ["same/bias", "w", "b"], ["y"], name="same")
    constants = {"w": integers(1, 5, 5, 1, 1), "b": integers(3, 5, low=1, high=2)}
    x = integers(2, 1, 5, 2, 2)
    program = npu.compile(model([first, second], [1, 5, 2, 2], constants), fmt=EXACT)
    second.name = "other"  # ONNX Runtime refuses the same name twice
    expected = floats(model([first, second], [1, 5, 2, 2], constants), x)["y"]
    np.testing.assert_array_equal(npu.reference.run(program, x)["y"], expected)
    assert len(program.matrices) == len(program.vectors) == 2
    assert not set(program.vectors) & set(program.tensors)


def test_compiling_twice_gives_the_same_program(tmp_path):
    graph = model(
        [node("Conv", "x w b", "c"), norm("c", "n"), node("Relu", "n", "y")],
        [1, 5, 4, 4],
        {"w": integers(1, 2, 5, 3, 3), "b": integers(2, 2), **_BN},
    )
    onnx.save(graph, tmp_path / "named.onnx")
    first, second = npu.compile(graph, name="n"), npu.compile(str(tmp_path / "named.onnx"), name="n")
    assert first.digest == second.digest
    assert npu.compile(tmp_path / "named.onnx").name == "named"
    assert npu.compile(graph).name == "small"
    other = model(
        [node("Conv", "x w", "y")],
        [1, 5, 4, 4],
        {"w": integers(7, 2, 5, 3, 3)},
    )
    assert npu.compile(other, name="n").digest != first.digest


def test_weights_in_another_file_come_with_the_path(tmp_path):
    graph = model([node("Conv", "x w", "y")], [1, 5, 4, 4], {"w": integers(1, 2, 5, 3, 3)})
    inside = npu.compile(graph, name="n")
    path = tmp_path / "outside.onnx"
    onnx.save(graph, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert npu.compile(path, name="n").digest == inside.digest
    with pytest.raises(InvalidInputError, match="the data of constant w is in another file"):
        npu.compile(onnx.load(path, load_external_data=False))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidInputError, match=r"cannot read .*outside\.onnx as an ONNX model"):
        npu.compile(path)


def test_saturated_weights_are_counted():
    w = np.full((2, 8, 1, 1), 1.0, np.float32)
    w[0, :3] = 2.0**17
    graph = model([node("Conv", "x w", "y")], [1, 8, 1, 1], {"w": w})
    with pytest.warns(UserWarning, match="3 weights in 1 layers .* saturate .most in y_node: 3."):
        npu.compile(graph, fmt="bw_cnn")


def test_weights_that_vanish_are_counted():
    w = np.full((2, 8, 1, 1), 1.0, np.float32)
    w[1] = 1e-30
    w[1, 0] = 0
    graph = model([node("Conv", "x w", "y")], [1, 8, 1, 1], {"w": w})
    with pytest.warns(UserWarning, match=r"7 weights in 1 layers are too small for .* become 0 .most in y_node: 7."):
        npu.compile(graph, fmt="bw_cnn")


def test_saturated_activations_are_counted(recwarn):
    graph = model(
        [node("Conv", "x w", "c"), node("Conv", "c w", "y")], [1, 5, 1, 1], {"w": np.ones((5, 5, 1, 1), np.float32)}
    )
    program = npu.compile(graph, fmt="bw_cnn")
    x = np.full((2, 5, 1, 1), 100, np.float32)
    assert npu.saturated(program, x) == {}
    assert not recwarn.list
    x[1] = 30_000  # five of them make 150,000; 2**17 is 131,072
    with pytest.warns(UserWarning, match=r"5 activations in 1 layers .* saturate .most in y_node: 5."):
        assert npu.saturated(program, x) == {"y_node": 5}
    x[0, 0] = 131_072
    with pytest.warns(UserWarning, match="saturate"):
        assert npu.saturated(program, x)["c_node"] == 1


def test_no_warning_without_saturation(recwarn):
    npu.compile(model([node("Conv", "x w", "y")], [1, 8, 1, 1], {"w": integers(1, 2, 8, 1, 1)}), fmt=EXACT)
    assert not recwarn.list
