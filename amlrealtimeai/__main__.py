"""amlrealtimeai from the command line: python -m amlrealtimeai COMMAND --help."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError


def quickstart(options: argparse.Namespace) -> None:
    """Run notebooks/00_QuickStart.ipynb: define, register, convert, containerize, deploy, consume."""
    from amlrealtimeai.lab.quickstart import run

    run()


def doctor(options: argparse.Namespace) -> None:
    """Say whether everything that the lessons need is here."""
    from amlrealtimeai import lab

    lab.doctor()


def score(options: argparse.Namespace) -> None:
    """Send a picture to a running service and print the most probable classes."""
    from amlrealtimeai.accel.client import PredictionClient
    from amlrealtimeai.lab.pictures import top

    host, _, port = options.address.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInputError(f"expected an address like 127.0.0.1:50051, got {options.address!r}")
    with PredictionClient(host, int(port), service_name=options.service) as client:
        begin = time.perf_counter()
        answer = client.score_file(options.image, outputs=options.output)
        elapsed = (time.perf_counter() - begin) * 1e3
    for output in answer if isinstance(answer, list) else [answer]:
        print(top(output) if output.size == 1000 else output)
    parts = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in client.last_timings.items())
    print(f"{elapsed:.1f} ms ({parts})")


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
    from amlrealtimeai.lab.measurement import call

    model = ConvertedModel.load(options.model, threads=options.threads)
    alias = next(iter(model.signature.inputs))
    images = np.array([Path(options.image).read_bytes()], object)
    print(call(lambda: model.predict({alias: images}), count=options.count))


def _serve(arguments: Sequence[str]) -> int:
    from amlrealtimeai.serving.__main__ import main as serve

    return serve(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="amlrealtimeai", description="Azure ML Hardware Accelerated Models, offline.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        return command

    add(quickstart)
    add(doctor)
    commands.add_parser("serve", help="Serve a converted model over gRPC (serve --help: its options).", add_help=False)
    command = add(score)
    command.add_argument("image", help="a JPEG or PNG file")
    command.add_argument("--address", default="127.0.0.1:50051", help="host:port of the service (default: %(default)s)")
    command.add_argument("--service", default="", help="the service's name, where several share the address")
    command.add_argument("--output", help="an output's name (default: all)")
    command = add(inspect)
    command.add_argument("program", help="a .npu program or an .accelonnx model")
    command.add_argument("--timing", action="store_true", help="the modelled FPGA's cycles instead of the listing")
    command = add(bench)
    command.add_argument("model", help="an .accelonnx model")
    command.add_argument("image", help="a JPEG or PNG file")
    command.add_argument("--threads", type=int, help="threads of the NPU (default: every CPU)")
    command.add_argument("--count", type=int, default=50, help="predictions that are timed (default: %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        return _serve(given[1:])
    options = _parser().parse_args(given)
    try:
        options.function(options)
    except (AmlRealtimeAiError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
