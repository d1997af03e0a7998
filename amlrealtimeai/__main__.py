"""amlrealtimeai from the command line: python -m amlrealtimeai COMMAND --help."""

from __future__ import annotations  # an older Python gets as far as being told that it is too old

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from amlrealtimeai import command_line
from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError

_AS_OPTIONS = {
    "pass use_ssl=True": "give --tls",
    "pass use_ssl=False": "leave out --tls, --root-certificate and https://",
    "pass root_certificates=": "give --root-certificate ",
    "(PredictionClient: access_token=..., client_from_service does it for you)": (
        "(--key, or better the environment variable AMLREALTIMEAI_KEY)"
    ),
    "in model_spec.name or as service_name of the client": "with --service",
    "a longer timeout": "a longer --timeout",
    "access_token: ": "--key: ",
    "service_name: ": "--service: ",
}
"""What clients and services say to programs in Python, as `score` has to say it."""


def quickstart(options: argparse.Namespace) -> None:
    """Run notebooks/00_QuickStart.ipynb: define, register, convert, containerize, deploy, consume."""
    from amlrealtimeai.lab.quickstart import run

    run()


def lab(options: argparse.Namespace) -> int:
    """Open the lessons in JupyterLab: copies of them in my-lessons/, which are yours to change."""
    from amlrealtimeai.lab.copies import open_lab

    return open_lab(options.jupyter)


def doctor(options: argparse.Namespace) -> int:
    """Say whether everything that the lessons need is here; exit status 1 if something is missing."""
    from amlrealtimeai.lab import diagnosis

    return 0 if diagnosis.print_findings(diagnosis.examine()) else 1


def score(options: argparse.Namespace) -> None:
    """Send a picture to a running service and print the most probable classes."""
    from amlrealtimeai.accel.client import PredictionClient
    from amlrealtimeai.client import without_batch
    from amlrealtimeai.lab.pictures import top

    host, port, secure = options.address
    try:
        with PredictionClient(
            host,
            port,
            use_ssl=secure or options.tls or options.root_certificate is not None,
            access_token=options.key or "",
            service_name=options.service,
            root_certificates=options.root_certificate,
        ) as client:
            begin = time.perf_counter()
            answer = client.score_file(options.image, outputs=options.output, timeout=options.timeout)
            elapsed = (time.perf_counter() - begin) * 1e3
    except AmlRealtimeAiError as error:
        text = str(error)
        for words, option in _AS_OPTIONS.items():
            text = text.replace(words, option)
        error.args = (text,)
        raise
    for output in map(without_batch, answer) if isinstance(answer, list) else [answer]:
        print(top(output) if output.size == 1000 else output)
    parts = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in client.last_timings.items())
    print(f"{elapsed:.1f} ms ({parts})")


def convert(options: argparse.Namespace) -> None:
    """Convert an ONNX file for the NPU, with what the NPU cannot run left to the host; `serve` takes the result."""
    from amlrealtimeai.convert import convert_onnx

    report = convert_onnx(
        options.model,
        options.result,
        name=Path(options.result).stem,
        outputs_nodes=options.outputs,
        fmt=options.format,
        require_fpga=not options.host,
    )
    print(report)


def inspect(options: argparse.Namespace) -> None:
    """Print an NPU program, or the program inside a converted model, chain by chain."""
    from amlrealtimeai import npu
    from amlrealtimeai.lab.blocks import program_of

    path = Path(options.program)
    program = npu.load(path) if path.suffix == ".npu" else program_of(path)
    print(npu.timing.estimate(program) if options.timing else program.listing())


def bench(options: argparse.Namespace) -> None:
    """Time one converted model's prediction of a picture, without the network."""
    import numpy as np

    from amlrealtimeai.artifact.converted import ConvertedModel
    from amlrealtimeai.client import read_file
    from amlrealtimeai.lab.measurement import call

    images = np.array([read_file(options.image)], object)
    model = ConvertedModel.load(options.model, threads=options.threads)
    alias = next(iter(model.signature.inputs))
    print(call(lambda: model.predict({alias: images}), count=options.count))


def _serve(arguments: Sequence[str]) -> int:
    from amlrealtimeai.serving.__main__ import main as serve

    return serve(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command_line.Parser(prog="amlrealtimeai", description="Azure ML Hardware Accelerated Models, offline.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(function: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        return command

    add(quickstart)
    command = add(lab)
    command.add_argument("jupyter", nargs="*", metavar="OPTION", help="of jupyter lab, behind --: lab -- --no-browser")
    add(doctor)
    commands.add_parser("serve", help="Serve a converted model over gRPC (serve --help: its options).", add_help=False)
    _describe_score(add(score))
    command = add(convert)
    command.add_argument("model", help="an .onnx file, or a folder with one and its external data")
    command.add_argument("result", help="the .accelonnx file to write")
    command.add_argument("--outputs", metavar="NAME,...", help="values to end with instead of the model's outputs")
    command.add_argument("--format", metavar="NAME", help="the NPU's number format, such as msfp16 (default: bw_cnn)")
    command.add_argument("--host", action="store_true", help="also take a model of which the NPU can run nothing")
    command = add(inspect)
    command.add_argument("program", help="a .npu program or an .accelonnx model")
    command.add_argument("--timing", action="store_true", help="the modelled FPGA's cycles instead of the listing")
    command = add(bench)
    command.add_argument("model", help="an .accelonnx model")
    command.add_argument("image", help="a JPEG or PNG file")
    command.add_argument("--threads", type=command_line.count, help="threads of the NPU (default: every CPU)")
    command.add_argument(
        "--count", type=command_line.count, default=50, help="predictions that are timed (default: %(default)s)"
    )
    return parser


def _describe_score(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", help="a JPEG or PNG file")
    command.add_argument(
        "--address",
        type=_address,
        default="127.0.0.1:50051",
        help="host:port, with https:// in front for TLS (default: %(default)s)",
    )
    command.add_argument("--service", default="", help="the service's name, where several share the address")
    command.add_argument("--output", help="an output's name (default: all)")
    command.add_argument(
        "--key",
        default=os.environ.get("AMLREALTIMEAI_KEY"),
        help="the service's key; better in the environment variable AMLREALTIMEAI_KEY, which others do not see",
    )
    command.add_argument("--tls", action="store_true", help="the service speaks TLS")
    command.add_argument(
        "--root-certificate",
        type=command_line.certificate,
        metavar="PEM",
        help="trust certificates that this one has signed; means --tls",
    )
    command.add_argument(
        "--timeout",
        type=command_line.some_seconds,
        default=10.0,
        metavar="SECONDS",
        help="for the answer (default: %(default)s)",
    )


def _address(text: str) -> tuple[str, int, bool]:
    """Host, port, and whether TLS is asked for."""
    host, port = command_line.address(text)
    return host, port, text.lower().startswith("https:")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def chosen() -> int | None:
        if sys.version_info < (3, 11):  # noqa: UP036
            found = ".".join(map(str, sys.version_info[:3]))
            raise ConfigError(f"Python {found} is too old, 3.11 to 3.13 is needed; {command_line.where_packages_are()}")
        try:
            if given[:1] == ["serve"]:
                return _serve(given[1:])
            options = _parser().parse_args(given)
            status: int | None = options.function(options)
            return status
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("amlrealtimeai"):
                raise
            mend = command_line.where_packages_are()
            raise ConfigError(f"{sys.executable} has no package {error.name!r}; {mend}") from None

    return command_line.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
