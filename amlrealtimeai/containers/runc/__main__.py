"""The command line: python -m amlrealtimeai.containers.runc run|ps|inspect|logs|exec|stop|rm|load|image ..."""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amlrealtimeai.containers.runc import spec, store
from amlrealtimeai.containers.runc.supervise import supervise
from amlrealtimeai.errors import AmlRealtimeAiError, ContainerError

_START_SECONDS = 30.0
_FIELD = re.compile(r"\{\{(json )?\.([A-Za-z.]+)\}\}")


def run(options: argparse.Namespace) -> None:
    """Start a container, and print its id."""
    if options.publish or options.network != "host":
        raise ContainerError("runc alone has no network of its own to publish a port from; use the network 'host'")
    if not options.read_only:
        raise ContainerError("runc alone runs containers whose root cannot be written to; ask for read_only=True")
    image, id = store.image(options.image), secrets.token_hex(32)
    content = json.loads((image / "image.json").read_text())
    config = spec.config(content, image / "rootfs", options, id)
    folder = store.root() / "containers" / id
    folder.mkdir(parents=True)
    store.write(folder / "config.json", config)
    store.write(folder / "container.json", {
        "Id": id,
        "Name": options.name,
        "Image": f"sha256:{image.name}",
        "Created": datetime.now(UTC).isoformat(),
        "Config": {"Labels": dict(label.partition("=")[::2] for label in options.label)},
        "HostConfig": {"Memory": 0 if os.geteuid() else spec.memory(options.memory), "ReadonlyRootfs": True},
        "RestartPolicy": int(options.restart.partition(":")[2] or 0),
    })  # fmt: skip
    subprocess.Popen(
        [sys.executable, "-P", "-m", "amlrealtimeai.containers.runc", "supervise", id],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    store.until(lambda: (folder / "state.json").exists(), _START_SECONDS)
    store.until(lambda: not store.is_kept(folder) or store.read(folder)["State"]["Running"], _START_SECONDS)
    if problem := store.start_problem(folder):
        store.remove(folder)
        raise ContainerError(problem)
    print(id)


def ps(options: argparse.Namespace) -> None:
    """Print the ids, or the names, of the containers that have all labels."""
    wanted = {label.removeprefix("label=") for label in options.filter}
    for folder in store.containers():
        found = store.read(folder)
        if wanted <= {f"{key}={value}" for key, value in found["Config"]["Labels"].items()}:
            print(_shown({**found, "Names": found["Name"]}, options.format or "{{.Id}}"))


def inspect(options: argparse.Namespace) -> None:
    """Print what is known of a container."""
    found = store.read(store.container(options.container))
    print(_shown(found, options.format) if options.format else json.dumps([found], indent=1))


def logs(options: argparse.Namespace) -> None:
    """Print what a container has printed."""
    folder = store.container(options.container)
    text = "".join(path.read_text(errors="replace") for path in (folder / "log.1", folder / "log") if path.exists())
    lines = text.splitlines(keepends=True)
    print("".join(lines if options.tail is None else lines[-options.tail :] if options.tail else []), end="")


def exec(options: argparse.Namespace) -> None:
    """Run one more command in a container."""
    done = store.runc("exec", store.container(options.container).name, *options.arguments)
    if done.returncode:
        raise ContainerError(done.stderr.strip())
    print(done.stdout, end="")


def stop(options: argparse.Namespace) -> None:
    """End a container."""
    store.stop(store.container(options.container), options.time)


def rm(options: argparse.Namespace) -> None:
    """End and forget a container."""
    store.remove(store.container(options.container))


def load(options: argparse.Namespace) -> None:
    """Unpack an image."""
    print(f"Loaded image: {store.load(options.input)}")


def image(options: argparse.Namespace) -> None:
    """Look for an image, or forget it."""
    if options.action == "rm":
        store.remove_image(options.image)
    else:
        store.image(options.image)


def info(options: argparse.Namespace) -> None:
    """Say whether it runs without root's rights."""
    print("[name=rootless]" if os.geteuid() else "[]")


def events(options: argparse.Namespace) -> None:
    """Nothing: the state remembers how a container ended."""


def _supervise(options: argparse.Namespace) -> None:
    supervise(store.container(options.container))


def _shown(found: dict[str, Any], template: str) -> str:
    def value(match: re.Match[str]) -> str:
        place: Any = found
        for name in match[2].split("."):
            place = place[name]
        return json.dumps(place) if match[1] or isinstance(place, bool) else str(place)

    return _FIELD.sub(value, template)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runc")
    commands = parser.add_subparsers(required=True)

    def add(
        function: Callable[[argparse.Namespace], None], *positional: str, **options: Any
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(function.__name__.strip("_"))
        command.set_defaults(function=function)
        for name, kind in options.items():
            flag = f"--{name.replace('_', '-')}"
            if kind is bool:
                command.add_argument(flag, action="store_true")
            elif kind is list:
                command.add_argument(flag, action="append", default=[])
            else:
                command.add_argument(flag, type=kind)
        for name in positional:
            command.add_argument(name)
        return command

    running = add(
        run, "image", detach=bool, read_only=bool, label=list, cap_drop=list, security_opt=list, tmpfs=list,
        ulimit=list, mount=list, group_add=list, publish=list, memory=str, cpus=float, pids_limit=int, restart=str,
        network=str, name=str,
    )  # fmt: skip
    running.set_defaults(restart="no")
    running.add_argument("arguments", nargs=argparse.REMAINDER)
    add(ps, all=bool, no_trunc=bool, quiet=bool, filter=list, format=str)
    add(inspect, "container", type=str, format=str)
    add(logs, "container", tail=int)
    add(exec, "container").add_argument("arguments", nargs=argparse.REMAINDER)
    add(stop, "container", time=float)
    add(rm, "container", force=bool)
    add(load, quiet=bool, input=Path)
    add(image, "action", "image")
    add(info, format=str)
    add(events, until=str, since=str, filter=list, format=str)
    add(_supervise, "container")
    return parser


def main() -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args()
    try:
        options.function(options)
    except (AmlRealtimeAiError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 125
    return 0


if __name__ == "__main__":
    sys.exit(main())
