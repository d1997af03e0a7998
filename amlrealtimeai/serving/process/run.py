"""One serving process: from the command line's options to a server, until a signal or the end of its parent."""

import argparse
import gc
import logging
import os
import threading
from pathlib import Path
from types import FrameType

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.command_line import stop_printing
from amlrealtimeai.errors import ConfigError, MissingFileError
from amlrealtimeai.serving import health
from amlrealtimeai.serving.ports.tls import Tls, check_private
from amlrealtimeai.serving.process import allocator
from amlrealtimeai.serving.process.heartbeat import Heart
from amlrealtimeai.serving.process.signals import handled
from amlrealtimeai.serving.process.watch import Watcher, read_services
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server

_DESCRIPTORS = 8192


def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    allocator.give_large_blocks_back()
    _allow_descriptors()
    signals = _Signals()
    with handled(signals.on_signal):
        _serve(options, signals)


def _allow_descriptors() -> None:
    """As many open connections as Limits allow by default need more file descriptors than a shell's usual 1,024."""
    if os.name == "nt":
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Signals:
    """SIGTERM, SIGINT, SIGHUP: until `take`, when there is nothing to lose yet, they end the process; then they are
    waited for.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._taken = False

    def take(self) -> None:
        """From here on `stop` is set instead."""
        self._taken = True

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The handler of all of them."""
        self.stop.set()
        if not self._taken:
            raise SystemExit(0)


def _serve(options: argparse.Namespace, signals: _Signals) -> None:
    if not options.model and not options.watch:
        raise ConfigError("nothing to serve: give a MODEL.accelonnx, or --watch FILE.json; --help says more")
    if options.port and options.port == options.rest_port:
        raise ConfigError(f"--port and --rest-port are both {options.port}; each needs one of its own")
    if options.watch:
        read_services(options.watch)  # later, an unusable file changes nothing; now there is nothing to keep
    tls_files = _tls_files(options)
    server = _server(options, tls_files)
    if options.model:
        model = ConvertedModel.load(options.model, options.threads, server.limits.max_pixels)
        model.warm_up()
        server.add_model(options.name or model.name, model, options.model_version)
    watcher = Watcher(server, options.watch, options.threads, tls_files, signals.stop)
    signals.take()  # many loads end from here on, and weak references to them: an exception in their callbacks is lost
    # before the port is open: who comes back to a replaced server must not hear of a missing model
    watcher.start()
    if signals.stop.is_set():
        watcher.stop(0)
    else:
        _serve_until(options, server, watcher, signals.stop)
    if watcher.is_alive:  # native code of a thread that outlives the interpreter would abort the process
        logging.shutdown()
        os._exit(0)


def _serve_until(options: argparse.Namespace, server: Server, watcher: Watcher, stop: threading.Event) -> None:
    server.start()
    try:
        _write_ports(options, server)
        gc.collect()
        gc.freeze()  # what is here now stays; collections need not walk through it
        _say_ready(server)
        heart = None if options.heartbeat is None else Heart(options.heartbeat)
        _wait(stop, options.with_parent, server, heart)
    finally:
        watcher.stop(0)  # what it is loading nobody will use
        server.stop(options.grace)


def _server(options: argparse.Namespace, tls_files: tuple[Path, ...] | None) -> Server:
    return Server(
        options.host,
        options.port,
        tls=Tls.from_files(*tls_files) if tls_files else None,
        keys=_keys(options.key_file),
        limits=Limits.from_texts(options.limit),
        rest_port=options.rest_port,
        admin_port=options.admin_port,
        admin_host=options.admin_host,
        plain_keys=options.plain_keys,
        shared_port=options.shared_port,
    )


def _say_ready(server: Server) -> None:
    try:
        print(f"ready on {server.address}", flush=True)
        if server.rest_port:
            print(f"REST API on port {server.rest_port}", flush=True)
        if server.admin_port:
            print(f"probes on port {server.admin_port}", flush=True)
    except BrokenPipeError:  # whoever started it does not listen any more; its clients do
        stop_printing()


def _write_ports(options: argparse.Namespace, server: Server) -> None:
    """For who started this process, where it names a file; and for the health check of this machine."""
    rest, admin = server.rest_port, server.admin_port
    if options.port_file:
        lines = [f"{server.port}", *([f"rest={rest}"] if rest else []), *([f"admin={admin}"] if admin else [])]
        temporary = options.port_file.with_name(options.port_file.name + ".tmp")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.replace(options.port_file)
    health.write_ports({
        "host": server.host, "port": server.port, "secure": server.secure,
        "admin_host": options.admin_host, "admin_port": admin,
    })  # fmt: skip


def _wait(stop: threading.Event, parent: int | None, server: Server, heart: Heart | None) -> None:
    """Until a signal, or until the parent process is gone."""
    while not stop.wait(0.5 if parent or heart else None):
        if heart and server.answers:
            heart.beat()
        if parent and os.getppid() != parent:
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
        raise MissingFileError(f"no key file {path}; expected a file with one key on each line")
    check_private(path, "the key file")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # editors of Windows put a mark in front
    except UnicodeDecodeError:
        raise ConfigError(f"the key file {path} is no UTF-8 text; expected one key on each line") from None
    stripped = [line.strip(" \t\r") for line in lines]
    keys = {number: line for number, line in enumerate(stripped, 1) if line}
    for number, key in keys.items():
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"the key file {path}, line {number}: expected one key of printable ASCII characters without spaces, "
                "and no comments"
            )
    if not keys:
        raise ConfigError(f"the key file {path} holds no key; expected one on each line")
    return list(keys.values())
