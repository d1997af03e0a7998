"""The exercises of 03_Deploy."""

import math
from collections.abc import Callable
from typing import Any

from amlrealtimeai.lab.check.verdict import (
    Verdict,
    Wrong,
    apart,
    ask,
    by_task,
    check,
    entries,
    is_open,
    number,
    returned_nothing,
    right,
    shown,
    words,
)

_LAYERS = ("base", "packages", "app", "model")
_CHANGED = {
    "train the model again": {"model"},
    "mend a line of the server": {"app"},
    "take a newer NumPy": {"packages", "model"},
}


@check
def which_layers(answer: Any) -> Verdict:
    """Exercise 1: which layers of the image are new after each change, as a dictionary."""
    given = by_task(answer, tuple(_CHANGED))
    for change, expected in _CHANGED.items():
        layers = given[change]
        said = set(words(list(layers) if isinstance(layers, set | frozenset) else layers))
        if unknown := said - set(_LAYERS):
            raise Wrong(f"The layers are called {', '.join(_LAYERS)}; what is {sorted(unknown)[0]!r}?")
        if said != expected:
            raise Wrong(f"{change.capitalize()}: {_layers_hint(change, said, expected)}")
    return right("A layer is named by what is in it: what stays the same is neither built, pushed nor pulled again.")


def _layers_hint(change: str, said: set[str], expected: set[str]) -> str:
    if said == set(_LAYERS):
        return "not all of them: a layer with the same content has the same digest, wherever it lies in the image."
    if "NumPy" in change and said == {"packages"}:
        return "yes, and one more: the list of contents names every package with its version. Where does it lie?"
    if missing := sorted(expected - said):
        return f"what about {missing[0]}? See what is in each layer, in the picture of them."
    extra = sorted(said - expected)[0]
    return f"nothing in {extra} is different afterwards."


_NEEDED: tuple[tuple[float, float, float, int], ...] = (
    (100, 8.0, 0.5, 2),
    (250, 20.0, 0.3, 8),
    (10, 5.0, 0.25, 1),
    (1000, 10.0, 0.2, 13),
    (200, 10.0, 0.5, 4),
    (100, 15.0, 0.5, 3),
)
# what a learner may compute instead, and what to say to it
_MISTAKES: tuple[tuple[Callable[[float, float, float], float], str], ...] = (
    (
        lambda r, ms, h: math.ceil(r * ms / (1 - h)),
        "The service time is in milliseconds, the rate in a second: / 1000.",
    ),
    (lambda r, ms, h: math.ceil(r * ms / 1000), "That leaves no headroom: all are busy all the time."),
    (
        lambda r, ms, h: math.ceil(r * ms / 1000 * (1 + h)),
        "Headroom is a share of the replicas, not of the load: divide by (1 - headroom).",
    ),
    (lambda r, ms, h: math.ceil(r * ms / 1000 / h), "headroom is what stays free; what is used is (1 - headroom)."),
    (lambda r, ms, h: r * ms / 1000 / (1 - h), "There is no part of a replica: round up."),
    (
        lambda r, ms, h: math.floor(r * ms / 1000 / (1 - h)),
        "Round up (math.ceil): rounded down, some headroom is gone.",
    ),
    (lambda r, ms, h: round(r * ms / 1000 / (1 - h)), "Round up (math.ceil), not to the nearest."),
    (
        lambda r, ms, h: math.floor(r * ms / 1000 / (1 - h)) + 1,
        "A whole number is enough as it is: math.ceil, not + 1.",
    ),
    (lambda r, ms, h: math.ceil(r * ms / 1000 / (1 - h)) + 1, "One less is enough: math.ceil has rounded up already."),
)


@check
def replicas_needed(function: Any) -> Verdict:
    """Exercise 2: a function (requests a second, service time in ms, headroom) to the number of replicas."""
    answers = [_replicas_by(function, *given) for *given, _ in _NEEDED]
    wrong = [i for i, (*_, expected) in enumerate(_NEEDED) if answers[i] != expected]
    if not wrong:
        return right("This is a first estimate: measure with the real clients, and let the autoscaler do the rest.")
    rate, service_ms, headroom, expected = _NEEDED[wrong[0]]
    case = f"{rate:g} requests/s of {service_ms:g} ms, headroom {headroom}"
    said = f"{case}: {apart(expected, answers[wrong[0]])}. "
    for mistake, text in _MISTAKES:
        if all(math.isclose(a, mistake(*given)) for a, (*given, _) in zip(answers, _NEEDED, strict=True)):
            raise Wrong(said + text)
    raise Wrong(said + "rate * seconds are busy at once; they may be (1 - headroom) of all; round up.")


def _replicas_by(function: Any, rate: float, service_ms: float, headroom: float) -> float:
    answer = ask(function, rate, service_ms, headroom)
    if is_open(answer):
        raise returned_nothing((rate, service_ms, headroom))
    return number(answer, "a number of replicas")


_PORTS = ("grpc", "50051", "rest", "8501", "admin", "8502")


@check
def wrong_probe(answer: Any) -> Verdict:
    """Exercise 3: (the port that the probe should have, how many of three old replicas go on answering)."""
    pair = entries(answer)
    if pair is None or len(pair) != 2:
        raise Wrong(f"Give the port's name and a number, such as ('rest', 1), not {shown(answer)}")
    port, old = pair
    if str(old).lower() in _PORTS and str(port).lower() not in _PORTS:
        raise Wrong("The port comes first, then the number of replicas.")
    if is_open(port) or is_open(old):
        raise Wrong("There is still a ... or None in it.")
    said = " ".join(str(port).lower().split())
    if said in ("50051", "grpc"):
        raise Wrong("That is what it has: /readyz is HTTP, and this port speaks gRPC.")
    if said in ("8501", "rest"):
        raise Wrong(
            "REST has a port of its own, with TLS and keys; probes have neither. Who answers /readyz to anyone?"
        )
    if said not in ("8502", "admin"):
        raise Wrong(f"The container's ports are grpc, rest and admin; what is {shown(port)}?")
    left = number(old, "a number of replicas")
    if left == 2:
        raise Wrong("maxUnavailable is 0: before an old one may go, a new one has to be ready. Is one, ever?")
    if left == 0:
        raise Wrong("The old ones have the old probe and are ready; nobody ends them before a new one is.")
    if left != 3:
        raise Wrong(f"There are three old replicas, and the rollout stops at the first new one: not {left:g}.")
    return right("The rollout stands still and no client notices; that is what probes and maxUnavailable: 0 are for.")
