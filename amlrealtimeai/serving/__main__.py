"""Serve converted models:  python -m amlrealtimeai.serving MODEL.accelonnx [options]

Prints one line, "ready on host:port", when it answers (and one with the port of the REST API, with --rest-port, where
/metrics and /healthz are, too). SIGTERM, SIGHUP or Ctrl-C: health turns NOT_SERVING, requests in flight
finish, exit status 0. One model is served under --name and to every client that names none; several models are given by
--watch FILE.json, which a parent process may replace at any time (format: serving/process/watch.py).
TLS files that are replaced are used for new connections, without a restart.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from amlrealtimeai import command_line
from amlrealtimeai.errors import DeploymentError
from amlrealtimeai.serving.process import logs
from amlrealtimeai.serving.process.supervise import supervise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    logs.set_up(options.log_level, options.log_format)
    return command_line.run(lambda: _run(options, given))


def _run(options: argparse.Namespace, given: list[str]) -> int | None:
    if options.port_file:
        _check_port_file(options.port_file)
    if options.supervise:
        mine = ["--no-supervise", "--with-parent", str(os.getpid())]
        arguments = [*given, *mine]
        return supervise(arguments, options.port_file, options.grace, options.with_parent, options.max_silence)
    from amlrealtimeai.serving.process.run import (
        run,  # here: a supervising parent lives without gRPC, NumPy and ONNX Runtime
    )

    run(options)
    return None


def _check_port_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise DeploymentError(f"--port-file: expected a file, or none yet; {path} is something else, and stays")
    if not path.parent.is_dir():
        raise DeploymentError(f"--port-file: there is no folder {path.parent} to write {path.name} into")


def _host(text: str) -> str:
    """An address as it is, also with the brackets that an IPv6 address has in front of a port."""
    return text.removeprefix("[").removesuffix("]")


def _parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(
        prog="python -m amlrealtimeai serve",
        description="Serve converted models over gRPC (TensorFlow Serving's API).",
    )
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL.accelonnx", help="a converted model")
    parser.add_argument("--name", help="serve it under this name (default: the one in the model)")
    parser.add_argument("--model-version", type=command_line.version, default=1, help="its version number (default 1)")
    parser.add_argument(
        "--watch", type=Path, metavar="FILE.json", help="serve what this file lists, and follow its changes"
    )
    parser.add_argument("--host", type=_host, default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port", type=command_line.port_or_free, default=50051, help="port (default 50051; 0: any free one)"
    )
    parser.add_argument(
        "--rest-port",
        type=command_line.port_or_free,
        help="also serve the REST API, /metrics and /healthz on this port",
    )
    parser.add_argument(
        "--admin-port",
        type=command_line.port_or_free,
        help="answer /livez, /readyz, /metrics there, without TLS and keys",
    )
    parser.add_argument(
        "--admin-host", type=_host, default="127.0.0.1", help="address of the admin port (default 127.0.0.1)"
    )
    parser.add_argument("--client-ca", type=Path, help="PEM of a CA: only clients with its certificates may connect")
    parser.add_argument("--port-file", type=Path, help="write the port to this file when ready, and that of REST")
    parser.add_argument("--threads", type=command_line.count, help="threads of a model (default: one per usable CPU)")
    parser.add_argument("--ssl-cert", type=Path, help="PEM certificate chain; makes the service TLS only")
    parser.add_argument("--ssl-key", type=Path, help="its PEM private key")
    parser.add_argument("--key-file", type=Path, help="service keys, one on each line; needs TLS")
    parser.add_argument(
        "--shared-port",
        action="store_true",
        help="let the server that replaces this one have the port, too",
    )
    parser.add_argument("--plain-keys", action="store_true", help="take keys without TLS, on the loopback address only")
    parser.add_argument(
        "--grace",
        type=command_line.seconds,
        default=10.0,
        help="seconds for requests in flight at the end (default 10)",
    )
    parser.add_argument(
        "--supervise",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="run in a child process, and replace it when it dies",
    )
    parser.add_argument(
        "--max-silence",
        type=command_line.seconds,
        default=60.0,
        metavar="SECONDS",
        help="with --supervise: replace a server that hangs for so long (default 60; 0: never)",
    )
    parser.add_argument("--heartbeat", type=int, help=argparse.SUPPRESS)  # the supervisor's pipe
    parser.add_argument(
        "--with-parent", type=command_line.count, metavar="PID", help="stop when this parent process is gone"
    )
    parser.add_argument("--log-format", default="text", choices=["text", "json"], help="log lines (default text)")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="change a limit, for example max_batch=16"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
