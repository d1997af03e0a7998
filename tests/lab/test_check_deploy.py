"""The checks of 03_Deploy: right answers in every form, common wrong ones with their true reasons."""

import math
from fractions import Fraction

import numpy as np
import pytest

from amlrealtimeai.lab import check

LAYERS = {
    "train the model again": ["model"],
    "mend a line of the server": ["app"],
    "take a newer NumPy": ["packages", "model"],
}


def changed(**layers):
    return LAYERS | {next(key for key in LAYERS if word in key): value for word, value in layers.items()}


@pytest.mark.parametrize("form", [list, tuple, set, np.array, ", ".join, lambda names: [n.title() for n in names]])
def test_layers_pass_in_every_form(form):
    assert check.which_layers({change: form(names) for change, names in LAYERS.items()}).passed
    assert check.which_layers([(change, form(names)) for change, names in LAYERS.items()]).passed
    assert check.which_layers({change.upper(): names[::-1] for change, names in LAYERS.items()}).passed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (changed(model=["base", "packages", "app", "model"]), "not all of them"),
        (changed(model=["app", "model"]), "nothing in app is different"),
        (changed(model=[]), "what about model?"),
        (changed(server=["model"]), "what about app?"),
        (changed(server=["app", "model"]), "nothing in model is different"),
        (changed(NumPy=["packages"]), "Where does it lie?"),
        (changed(NumPy=["packages", "app", "model"]), "nothing in app is different"),
        (changed(NumPy=["weights"]), "what is 'weights'?"),
        (changed(NumPy=...), "still a ..."),
        (changed(NumPy=[1, 3]), "expected a text in every place"),
        (changed(NumPy=math.nan), "expected a list of texts"),
        (changed(NumPy={"packages": 1}), "expected a list of texts"),
        (changed(NumPy="package, model"), "what is 'package'?"),
        (changed(NumPy=["packages", ...]), "still a ..."),
        ({"train the model again": ["model"]}, "Give each of"),
        (["model"], "Give a dictionary"),
        ({**LAYERS, "sleep": []}, "Give each of"),
    ],
)
def test_wrong_layers_are_diagnosed(answer, said):
    verdict = check.which_layers(answer)
    assert not verdict.passed and said in verdict.text, verdict


def needed(rate, service_ms, headroom):
    return math.ceil(rate * service_ms / 1000 / (1 - headroom))


@pytest.mark.parametrize("form", [int, float, np.int64, np.array, lambda n: [n]])
def test_a_number_of_replicas_passes_in_every_form(form):
    assert check.replicas_needed(lambda r, ms, h: form(needed(r, ms, h))).passed


@pytest.mark.parametrize(
    "function",
    [
        lambda r, ms, h: math.ceil((r * (ms / 1000)) / (1 - h)),
        lambda r, ms, h: math.ceil(r / (1000 / ms * (1 - h))),
        lambda r, ms, h: -int(-(r * ms / 1000 / (1 - h)) // 1),
        lambda r, ms, h: math.ceil(Fraction(str(r)) * Fraction(str(ms)) / 1000 / (1 - Fraction(str(h)))),
    ],
)
def test_other_ways_to_compute_it_pass(function):
    assert check.replicas_needed(function).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda r, ms, h: math.ceil(r * ms / (1 - h)), "milliseconds"),
        (lambda r, ms, h: math.ceil(r * ms / 1000), "no headroom"),
        (lambda r, ms, h: math.ceil(r * ms / 1000 * (1 + h)), "not of the load"),
        (lambda r, ms, h: math.ceil(r * ms / 1000 / h), "what stays free"),
        (lambda r, ms, h: r * ms / 1000 / (1 - h), "no part of a replica"),
        (lambda r, ms, h: int(r * ms / 1000 / (1 - h)), "rounded down"),
        (lambda r, ms, h: round(r * ms / 1000 / (1 - h)), "not to the nearest"),
        (lambda r, ms, h: int(r * ms / 1000 / (1 - h)) + 1, "not + 1"),
        (lambda r, ms, h: round(r * ms / 1000 / (1 - h) + 0.5), "expected 3, got 4"),
        (lambda r, ms, h: needed(r, ms, h) + 1, "One less is enough"),
        (lambda r, ms, h: math.nan, "got nan"),
        (lambda r, ms, h: [needed(r, ms, h)] * 2, "expected a number of replicas"),
        (lambda r, ms, h: 7, "round up."),
        (lambda r, ms, h: "2", "leave the quotes out"),
        (lambda r, ms, h: None, "in place of None"),
        (lambda r, ms, h: 2 if r == 100 else None, "returned None for (250"),
        (lambda r, ms, h: r / 0, "ZeroDivisionError"),
        (lambda r: r, "has to take 3 values"),
    ],
)
def test_wrong_numbers_of_replicas_are_diagnosed(function, said):
    verdict = check.replicas_needed(function)
    assert not verdict.passed and said in verdict.text, verdict


@pytest.mark.parametrize("answer", [("admin", 3), ["Admin", 3.0], (8502, 3), ("8502", np.int64(3))])
def test_the_probe_passes_in_every_form(answer):
    assert check.wrong_probe(answer).passed


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("grpc", 3), "this port speaks gRPC"),
        ((50051, 3), "this port speaks gRPC"),
        (("rest", 3), "REST has a port of its own"),
        (("http", 3), "what is 'http'?"),
        (("admin", 2), "maxUnavailable is 0"),
        (("admin", 0), "nobody ends them"),
        (("admin", 1), "not 1"),
        ((3, "admin"), "The port comes first"),
        (["3", "grpc"], "The port comes first"),
        (("admin", math.nan), "not nan"),
        (np.array(["port", "3"]), "what is 'port'?"),
        (("admin", "three"), "leave the quotes out"),
        (("admin", ...), "still a ..."),
        ("admin", "the port's name and a number"),
        (("admin",), "the port's name and a number"),
        ({"admin": 3, "x": 1}, "the port's name and a number"),
    ],
)
def test_a_wrong_probe_is_diagnosed(answer, said):
    verdict = check.wrong_probe(answer)
    assert not verdict.passed and said in verdict.text, verdict
