"""Transfer learning in a session: values in batches, training, the table of mistakes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab import transfer


def test_a_table_of_mistakes_is_read_by_rows():
    table = transfer.confusion([0, 0, 1, 1, 1], np.eye(2)[[0, 1, 1, 1, 1]], ("cat", "dog"))
    assert table.counts.tolist() == [[1, 1], [0, 3]]
    assert table.accuracy == 80.0
    assert str(table).splitlines() == [
        "taken for:           cat         dog",
        "cat" + 20 * " " + "1" + 11 * " " + "1",
        "dog" + 20 * " " + "0" + 11 * " " + "3",
        "80.0 % of 5 recognised",
    ]
    assert ">80.0 % of 5 recognised</caption>" in table._repr_html_()
    assert "background:rgba(0,114,178,0.70);text-align:right'>3<" in table._repr_html_()


def test_a_table_wants_a_column_for_each_name():
    with pytest.raises(InvalidInputError, match=r"shape \[2, 3\] .* got \[2, 2\]"):
        transfer.confusion([0, 1], np.eye(2), ("cat", "dog", "fox"))


def test_values_and_training_of_a_line():
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
        slope = tf.get_variable("slope", initializer=0.0)
        fixed = tf.get_variable("fixed", initializer=1.0)
        line = slope * x + fixed
        loss = tf.reduce_mean((line - y) ** 2)
        session.run(tf.global_variables_initializer())
        inputs = np.linspace(-1, 1, 50, dtype=np.float32)
        assert transfer.values(session, line, {x: inputs}, batch=16).tolist() == [1.0] * 50
        losses = transfer.train(session, loss, [slope], {x: inputs, y: 3 * inputs + 1}, epochs=60, rate=0.1)
        assert losses[0] > 1 and losses[-1] < 1e-3 and len(losses) == 60
        assert session.run(slope) == pytest.approx(3, abs=0.05) and session.run(fixed) == 1.0


def test_variables_learn_at_their_own_rates():
    with tf.Graph().as_default(), tf.Session() as session:
        slow, fast = (tf.get_variable(name, initializer=0.0) for name in ("slow", "fast"))
        x = tf.placeholder(tf.float32, [None])
        session.run(tf.global_variables_initializer())
        loss = tf.reduce_mean((slow - x) ** 2 + (fast - x) ** 2)
        rates = {"rate": 1e-3, "faster": {fast.ref(): 10.0}}
        transfer.train(session, loss, [slow, fast], {x: np.ones(1, np.float32)}, epochs=1, **rates)
        assert session.run([slow, fast]) == pytest.approx([1e-3, 1e-2], rel=1e-3)


def test_bytes_keep_their_last_zeros():
    with tf.Graph().as_default(), tf.Session() as session:
        files = tf.placeholder(tf.string, [None])
        lengths = tf.strings.length(files)
        assert transfer.values(session, lengths, {files: [b"ab\0\0", b"\0"]}).tolist() == [4, 1]


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(InvalidInputError, match=r"as many rows; got \[2, 3\]"):
        transfer.values(None, "x", {"a": [1, 2], "b": [1, 2, 3]})
