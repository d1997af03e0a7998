"""The exercises of 05_SSL."""

from typing import Any

from amlrealtimeai.lab.check.verdict import Verdict, Wrong, ask, check, is_open, returned_nothing, right, shown, words


@check
def certificate_names(answer: Any) -> Verdict:
    """Exercise 1: a certificate that is valid for localhost and 127.0.0.1, as PEM text or as it was made."""
    from amlrealtimeai.core.certificates import names_in

    pem = getattr(answer, "certificate", answer)
    pem = pem.decode(errors="replace") if isinstance(pem, bytes) else pem
    if isinstance(pem, str) and "PRIVATE KEY" in pem:
        raise Wrong("That is the private key, which nobody but the server should see: give .certificate.")
    if not isinstance(pem, str) or "BEGIN CERTIFICATE" not in pem:
        raise Wrong("Give the PEM text: development_certificate([...]).certificate")
    try:
        names = names_in(pem)
    except ValueError as error:
        raise Wrong(f"That PEM text cannot be read ({error}); give .certificate as it was made.") from None
    if not names:
        raise Wrong("That certificate is for no name at all: it is the CA's (.ca); give .certificate.")
    missing = [name for name in ("localhost", "127.0.0.1") if name not in names]
    if missing:
        raise Wrong(f"It is valid for {', '.join(names)}, but not for {' and '.join(missing)}; names is a list.")
    return right("A client may come by either: what it typed is what it compares.")


# in full, as the lesson shows them: any of their words may be what a learner looks for
_FAILURES = {
    "localhost:1: the service's certificate is not trusted; for a self-signed one pass root_certificates=<its PEM "
    "file>, or set GRPC_DEFAULT_SSL_ROOTS_FILE_PATH before Python starts (UNAVAILABLE)": "untrusted",
    "127.0.0.1:1: the service's certificate is for another name than '127.0.0.1'; connect by the name that is in the "
    "certificate, or have one made for this name (UNAVAILABLE)": "wrong name",
    "localhost:1: the service wants TLS and this client does not use it; pass use_ssl=True (UNAVAILABLE)": "client "
    "without TLS",
    "localhost:1: the service does not speak TLS; pass use_ssl=False (UNAVAILABLE)": "server without TLS",
    "localhost:1: the service's certificate has expired; it has to be replaced by a new one, on the server "
    "(UNAVAILABLE)": "expired",
    "this service needs a key: send it as metadata 'authorization: Bearer <key>' (PredictionClient: access_token=..., "
    "client_from_service does it for you) (UNAUTHENTICATED)": "wrong key",
    "the key is not one of this service's keys; it may have been regenerated: ask get_keys() again "
    "(UNAUTHENTICATED)": "wrong key",
}
_NAMES = {name.lower(): name for name in _FAILURES.values()}


@check
def diagnosis(function: Any) -> Verdict:
    """Exercise 2: a function from an error's text to the name of the failure."""
    for text, expected in _FAILURES.items():
        answer = ask(function, text)
        if is_open(answer):
            raise returned_nothing(text)
        said = _NAMES.get(" ".join(answer.lower().split())) if isinstance(answer, str) else None
        if said is None:
            raise Wrong(f"It said {shown(answer)}; the failures are called {', '.join(_NAMES.values())}.")
        if said != expected:
            raise Wrong(f"{shown(text, 110)} is {expected!r}, not {said!r}.")
    return right("Five of them are UNAVAILABLE, so only the words tell them apart; a key has a code of its own.")


_ROTATION = ("hand out secondary", "regenerate primary", "hand out primary", "regenerate secondary")


@check
def rotation(answer: Any) -> Verdict:
    """Exercise 3: the order of four steps, when all clients use the primary key at first."""
    steps = words(answer, _ROTATION)
    if sorted(steps) != sorted(_ROTATION):
        unknown = [step for step in steps if step not in _ROTATION]
        what = f" What is {shown(unknown[0])}?" if unknown else ""
        raise Wrong(f"Use each of these once: {', '.join(sorted(_ROTATION))}.{what}")
    used = "primary"
    for step in steps:
        action, _, key = step.partition(" ")
        if action == "regenerate" and key == used:
            raise Wrong(f"At {step!r} the clients still use the {key} key: they would be refused.")
        if action == "hand":
            used = step.rpartition(" ")[2]
    if steps.index("hand out primary") < steps.index("regenerate primary"):
        raise Wrong("The primary key that you hand out is the old one; regenerate it before.")
    return right("At every moment the key that clients use is valid; both are new at the end.")
