"""What the commands share: arguments that are checked where they are read, errors of one sentence, exit statuses.

Statuses: 0 done; 1 it could not be done; 2 the command line asks for something impossible; 130 interrupted;
141 the reader of a pipe has gone, as a program that SIGPIPE ends.
"""

from __future__ import annotations  # see __main__

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError, DeploymentError, InvalidInputError, NotFoundError

_ROOT = Path(__file__).resolve().parents[1]
_INTERRUPTED, _PIPE_CLOSED = 130, 141
_ASKED_WRONGLY = (InvalidInputError, NotFoundError, ConfigError)


class Parser(argparse.ArgumentParser):
    """An argparse parser that says what is wrong in one sentence, without a page of usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and end with status 2."""
        self.exit(2, f"error: {message}; '{self.prog} --help' says more\n")


def run(command: Callable[[], int | None]) -> int:
    """Run a command to its exit status; expected failures become one sentence on stderr."""
    if hasattr(sys.stdout, "reconfigure"):  # the path of a file need not be one that this terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command() or 0
        if sys.stdout is not None:  # None: it was closed before Python started
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        stop_printing()
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except AmlRealtimeAiError as error:
        print(f"error: {error}", file=sys.stderr)
        asked_wrongly = isinstance(error, _ASKED_WRONGLY) and not isinstance(error, DeploymentError)
        return 2 if asked_wrongly else 1
    except (OSError, UnicodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def where_packages_are() -> str:
    """What to do when this Python lacks a package that the lock file has."""
    environment = _ROOT / ".venv"
    if not (environment / "ready").exists():
        return "run 'make setup' in the repository and use .venv/bin/python, or 'conda activate amlrealtimeai'"
    if Path(sys.prefix) == environment:
        return "run 'make clean setup' in the repository: something was removed from .venv"
    python = environment / "bin" / "python"
    return f"'make setup' has put it into {environment}: use {python}, or 'source {environment}/bin/activate' first"


def stop_printing() -> None:
    """Nobody reads stdout any more: what is printed from now on, and when Python ends, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def port(text: str) -> int:
    """A port to connect to."""
    return _whole(text, 1, 65535, "a port from 1 to 65535")


def port_or_free(text: str) -> int:
    """A port to listen on; 0 stands for any free one."""
    return _whole(text, 0, 65535, "a port from 0 (any free one) to 65535")


def count(text: str) -> int:
    """How many: at least one."""
    return _whole(text, 1, 2**31 - 1, "a whole number of at least 1")


def none_or_more(text: str) -> int:
    """How many: 0 or more."""
    return _whole(text, 0, 2**31 - 1, "a whole number, 0 or more")


def version(text: str) -> int:
    """A version number of TensorFlow Serving's: at least 1, 64 bits."""
    return _whole(text, 1, 2**63 - 1, "a version of at least 1")


def seconds(text: str) -> float:
    """A duration that may be 0."""
    return _duration(text, 0.0, "seconds, 0 or more")


def some_seconds(text: str) -> float:
    """A duration above 0."""
    return _duration(text, 1e-3, "seconds, more than 0")


def address(text: str) -> tuple[str, int]:
    """host:port, [IPv6]:port, with or without http:// or https:// in front."""
    expected = "an address like 127.0.0.1:50051"
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    plain = not text.split("://")[-1].rstrip("/").count("/") and "@" not in text
    if not host or not number or not plain or any(c.isspace() for c in text):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return host, number


def certificate(text: str) -> bytes:
    """The content of a PEM file of certificates."""
    try:
        content = Path(text).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"expected a PEM file, got {text!r}: {error.strerror}") from None
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise argparse.ArgumentTypeError(f"expected a PEM file, but {text!r} has no BEGIN CERTIFICATE")
    return content


def _whole(text: str, smallest: int, largest: int, expected: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = smallest - 1
    if not smallest <= value <= largest:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


def _duration(text: str, smallest: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not smallest <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
