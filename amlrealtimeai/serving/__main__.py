"""Serve converted models:  python -m amlrealtimeai.serving MODEL.accelonnx [options]

Prints one line, "ready on host:port", when it answers (and one with the port of the REST API, with --rest-port, where
/metrics and /healthz are, too). SIGTERM or Ctrl-C: health turns NOT_SERVING, requests in flight
finish, exit status 0. One model is served under --name and to every client that names none; several models are given by
--watch FILE.json, which a parent process may replace at any time (the format is in amlrealtimeai/serving/watch.py).
TLS files that are replaced are used for new connections, without a restart.
"""

import argparse
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError, NotFoundError
from amlrealtimeai.serving import allocator, logs
from amlrealtimeai.serving.converted import ConvertedModel
from amlrealtimeai.serving.limits import Limits
from amlrealtimeai.serving.server import Server
from amlrealtimeai.serving.supervise import supervise
from amlrealtimeai.serving.tls import Tls, check_private
from amlrealtimeai.serving.watch import Watcher


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; returns the exit status."""
    options = _parser().parse_args(arguments)
    logs.set_up(options.log_level, options.log_format)
    if options.supervise:
        given = list(sys.argv[1:] if arguments is None else arguments)
        mine = ["--with-parent", str(os.getpid())]
        return supervise([*(text for text in given if text != "--supervise"), *mine], options.port_file)
    allocator.give_large_blocks_back()
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        _serve(options, stop)
    except AmlRealtimeAiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(options: argparse.Namespace, stop: threading.Event) -> None:
    if not options.model and not options.watch:
        raise ConfigError("nothing to serve: give a MODEL.accelonnx, or --watch FILE.json; --help says more")
    tls_files = _tls_files(options)
    server = Server(
        options.host,
        options.port,
        tls=Tls.from_files(*tls_files) if tls_files else None,
        keys=_keys(options.key_file),
        limits=Limits.from_texts(options.limit),
        rest_port=options.rest_port,
    )
    if options.model:
        model = ConvertedModel.load(options.model, options.threads, server.limits.max_pixels)
        model.warm_up()
        server.add_model(options.name or model.name, model, options.model_version)
    watcher = Watcher(server, options.watch, options.threads, tls_files)
    server.start()
    try:
        watcher.start()
        if options.port_file:
            temporary = options.port_file.with_name(options.port_file.name + ".tmp")
            temporary.write_text(f"{server.port}\n")
            temporary.replace(options.port_file)
        gc.collect()
        gc.freeze()  # what is here now stays; collections need not walk through it
        print(f"ready on {server.address}", flush=True)
        if server.rest_port:
            print(f"REST API on port {server.rest_port}", flush=True)
        _wait(stop, options.with_parent)
    finally:
        watcher.stop()
        server.stop(options.grace)


def _wait(stop: threading.Event, parent: int | None) -> None:
    """Until a signal, or until the parent process is gone."""
    while not stop.wait(0.5 if parent else None):
        if os.getppid() != parent:
            logging.getLogger("amlrealtimeai.serving").warning("the parent process %s is gone; stopping", parent)
            return


def _tls_files(options: argparse.Namespace) -> tuple[Path, ...] | None:
    if bool(options.ssl_cert) != bool(options.ssl_key):
        raise ConfigError("--ssl-cert and --ssl-key belong together; one of them is missing")
    if not options.ssl_cert:
        if options.client_ca:
            raise ConfigError("--client-ca needs --ssl-cert and --ssl-key")
        return None
    files = (options.ssl_cert, options.ssl_key)
    return (*files, options.client_ca) if options.client_ca else files


def _keys(path: Path | None) -> list[str]:
    if path is None:
        return []
    if not path.is_file():
        raise NotFoundError(f"no key file {path}; expected a file with one key on each line")
    check_private(path, "the key file")
    keys = path.read_text().split()
    if not keys:
        raise ConfigError(f"the key file {path} holds no key; expected one on each line")
    return keys


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m amlrealtimeai.serving",
        description="Serve converted models over gRPC (TensorFlow Serving's API).",
    )
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL.accelonnx", help="a converted model")
    parser.add_argument("--name", help="serve it under this name (default: the one in the model)")
    parser.add_argument("--model-version", type=int, default=1, help="its version number (default 1)")
    parser.add_argument(
        "--watch", type=Path, metavar="FILE.json", help="serve what this file lists, and follow its changes"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=50051, help="port (default 50051; 0: any free one)")
    parser.add_argument("--rest-port", type=int, help="also serve the REST API, /metrics and /healthz on this port")
    parser.add_argument("--client-ca", type=Path, help="PEM of a CA: only clients with its certificates may connect")
    parser.add_argument("--port-file", type=Path, help="write the port to this file when ready")
    parser.add_argument("--threads", type=int, help="threads of a model (default: one per usable CPU)")
    parser.add_argument("--ssl-cert", type=Path, help="PEM certificate chain; makes the service TLS only")
    parser.add_argument("--ssl-key", type=Path, help="its PEM private key")
    parser.add_argument("--key-file", type=Path, help="service keys, one on each line; needs TLS")
    parser.add_argument(
        "--grace", type=float, default=10.0, help="seconds for requests in flight at the end (default 10)"
    )
    parser.add_argument("--supervise", action="store_true", help="run in a child process, and replace it when it dies")
    parser.add_argument("--with-parent", type=int, metavar="PID", help="stop when this parent process is gone")
    parser.add_argument("--log-format", default="text", choices=["text", "json"], help="log lines (default text)")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="change a limit, for example max_batch=16"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
