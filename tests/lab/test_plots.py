"""Plots and widgets: what is seen, in words, and what happens when they are used."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.transfer import Confusion
from amlrealtimeai.serving.server import Server

FOX = lab.sample("red_fox")


def table(*rows):
    return Confusion(np.array(rows), ("cat", "dog"))


def test_an_interval_is_wilsons():
    """Reference: 95 of 100 gives 88.8 to 97.8 %; 100 of 100 gives 96.3 to 100 %."""
    assert table([48, 2], [3, 47]).interval == pytest.approx((88.82, 97.85), abs=0.01)
    assert table([50, 0], [0, 50]).interval == pytest.approx((96.30, 100.0), abs=0.01)


def test_dots_say_their_numbers_in_words():
    drawn = lab.plots.dots({"float": table([48, 2], [3, 47]), "narrow": table([30, 20], [25, 25])}, guess=80)
    assert drawn.mime == "image/png" and drawn.data.startswith(b"\x89PNG")
    assert repr(drawn) == "Dots with intervals. float: 95.0 %, from 89 to 98; narrow: 55.0 %, from 45 to 64"


@pytest.mark.parametrize("guess", [70, "70", " 70 %", np.array(70), np.float32(70)])
def test_a_guess_is_a_line_in_whatever_form_it_was_written(guess):
    tables = {"float": table([48, 2], [3, 47])}
    drawn = lab.plots.dots(tables, guess=guess).data
    assert drawn == lab.plots.dots(tables, guess=70.0).data != lab.plots.dots(tables).data


@pytest.mark.parametrize("guess", [..., "many", [70], (1, 2), {}, 1j, math.nan, math.inf, -5, 1e9, 10**400, True, len])
def test_what_is_no_percentage_is_no_line_and_no_error(guess):
    tables = {"float": table([48, 2], [3, 47])}
    assert lab.plots.dots(tables, guess=guess).data == lab.plots.dots(tables).data
    assert isinstance(lab.guessed(guess, "%"), str)


@pytest.mark.parametrize("values", [[], None, 5, ["a"], [[1.0, 2.0]], [10**400], {}, [1.0] * 1000, [math.nan]])
def test_a_block_of_what_is_none_is_an_error_of_ours(values):
    three_bits = lab.blocks.BlockFormat(4, 3, 8)
    for read in (
        lambda: lab.blocks.view(values, three_bits),
        lambda: lab.widgets.mantissas(values),
        lambda: lab.widgets.mantissa_slider(values),
        lambda: lab.blocks.dot(values, [1.0, 2.0], three_bits),
        lambda: lab.blocks.dot([1.0, 2.0], values, three_bits),
    ):
        with pytest.raises(InvalidInputError):
            read()


def test_the_surest_mistakes_come_first():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.99, 0.01]])
    drawn = lab.plots.mistakes([FOX] * 4, [1, 1, 1, 0], probabilities, ("cat", "dog"))
    assert repr(drawn) == (
        "2 of 2 pictures taken for something else: a dog, taken for a cat with 90 %; a dog, taken for a cat with 60 %"
    )
    one = lab.plots.mistakes([FOX] * 4, [1, 1, 1, 0], probabilities, ("cat", "dog"), only=[False, True, True, True])
    assert repr(one).startswith("1 of 1 pictures")
    assert "no picture" in lab.plots.mistakes([FOX], [0], [[0.9, 0.1]], ("cat", "dog"))


def test_mended_and_broken():
    before, after = np.eye(2)[[0, 1, 0, 1]], np.eye(2)[[0, 0, 1, 1]]
    drawn = lab.plots.changed([FOX] * 4, [0, 0, 0, 0], before, after)
    assert repr(drawn) == "1 pictures mended, 1 broken; shown are 1 and 1 of them."


def test_the_slider_redraws_its_block_and_the_twin_says_the_same():
    values = [6.5, 2.5, -1.5, 0.25]
    twin = lab.widgets.mantissas(values).splitlines()
    assert twin[3].split() == ["3", "1", "6", "2", "-2", "0", "0.5"]
    box = lab.widgets.mantissa_slider(values)
    slider, shown = box.children
    assert "6.5 -&gt;    6 x 1 = 6" in shown.value
    slider.value = 7
    assert "step 2**-4 = 0.0625" in shown.value and "0.25 -&gt;    4 x 0.0625 = 0.25" in shown.value


class Client:
    def __init__(self, answer):
        self.answer = answer

    def score_numpy_arrays(self, inputs):
        assert inputs["images"].shape == (1,) and inputs["images"][0] == b"jpeg\0"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_picture_is_uploaded_and_its_answer_shown():
    uploaded = {"name": "a.jpg", "type": "image/jpeg", "size": 5, "content": memoryview(b"jpeg\0")}
    for answer, said in ((np.eye(1000)[340], "zebra"), (ValueError("not <a> picture"), "not &lt;a&gt; picture")):
        button, shown = lab.widgets.upload_and_score(Client(answer)).children
        for _ in range(2):  # the same file again, as after a change of the service
            shown.value = ""
            button.value = ({**uploaded, "last_modified": datetime(2026, 1, 1, tzinfo=UTC)},)
            assert said in shown.value


def test_the_explorer_goes_through_a_program_and_the_twin_says_the_same(tmp_path):
    program = lab.program_of(lab.deploy.small_network(tmp_path, seed=1))
    slider, shown = lab.widgets.program_explorer(program).children
    assert slider.max == len(program.chains) - 1 == 4
    for number in (0, 4):
        slider.value = number
        twin = lab.widgets.chain(program, number)
        assert twin.startswith(f"chain {number}  ") and "modelled: " in twin
        assert twin.splitlines()[-1] in shown.value and f"Chain {number} has " in shown.value
    with pytest.raises(InvalidInputError, match="from 0 to 4, got 5"):
        lab.widgets.chain(program, 5)


def test_clients_are_measured_one_number_after_the_other(tmp_path):
    with Server() as server:
        server.add_model("small", ConvertedModel.load(lab.deploy.small_network(tmp_path, seed=1)))
        clients, ask, shown = lab.widgets.latency_against_clients(server.address).children
        for count in (1, 4):
            clients.value = count
            ask.click()
            assert f"{count:>2} clients: " in shown.value and not ask.disabled, shown.value
        assert " 1 clients: " in shown.value and "<img alt=" in shown.value
