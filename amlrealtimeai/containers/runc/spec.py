"""From an image's configuration and the options of `run` to runc's config.json (OCI runtime specification 1.0.2).

As podman and docker are asked to by containers.run: no capability, a root that cannot be written to, the network of
this machine. Without root's rights the container's root is the user who starts it, and there are no limits.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from amlrealtimeai.errors import ContainerError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_PERIOD = 100_000  # microseconds
_KINDS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def config(image: dict[str, Any], rootfs: Path, options: argparse.Namespace, id: str) -> dict[str, Any]:
    """The content of config.json."""
    rootless = os.geteuid() != 0
    made, own = _template(rootless), image["config"]
    user, _, group = str(own.get("User") or "0").partition(":")
    made["process"].update({
        "terminal": False,
        "user": {"uid": 0, "gid": 0} if rootless else {"uid": int(user), "gid": int(group or 0)},
        "args": [*own.get("Entrypoint", []), *(options.arguments or own.get("Cmd") or [])],
        "env": own.get("Env", []),
        "cwd": own.get("WorkingDir") or "/",
        "capabilities": {kind: [] for kind in _KINDS},
        "rlimits": [_rlimit(text) for text in options.ulimit],
        "noNewPrivileges": True,
    })  # fmt: skip
    if options.group_add and not rootless:
        made["process"]["user"]["additionalGids"] = [int(number) for number in options.group_add]
    made["root"] = {"path": str(rootfs), "readonly": True}
    made["mounts"] += [_scratch(text) for text in options.tmpfs] + [_bind(text) for text in options.mount]
    linux = made["linux"]
    linux["namespaces"] = [space for space in linux["namespaces"] if space["type"] != "network"]
    if rootless:
        linux.pop("resources", None)
        return made
    linux["cgroupsPath"] = f"/amlrealtimeai/{id}"
    if limit := memory(options.memory):
        linux["resources"]["memory"] = {"limit": limit, "swap": limit}
    linux["resources"]["pids"] = {"limit": options.pids_limit}
    if options.cpus:
        linux["resources"]["cpu"] = {"quota": round(options.cpus * _PERIOD), "period": _PERIOD}
    return made


def memory(text: str) -> int:
    """Bytes of "512m"; 0 for no limit."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)([bkmg]?)b?", text.lower())
    if found is None:
        raise ContainerError(f"expected a size such as 512m, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def _template(rootless: bool) -> dict[str, Any]:
    """What runc itself takes for usual."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["runc", "spec", *(["--rootless"] if rootless else [])]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        made: dict[str, Any] = json.loads((Path(folder) / "config.json").read_text())
    return made


def _rlimit(text: str) -> dict[str, Any]:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    return {"type": f"RLIMIT_{name.upper()}", "soft": int(soft), "hard": int(hard or soft)}


def _scratch(text: str) -> dict[str, Any]:
    target, _, options = text.partition(":")
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options.split(",")}


def _bind(text: str) -> dict[str, Any]:
    (fields,) = csv.reader([text])
    given = dict(field.partition("=")[::2] for field in fields)
    options = ["rbind", "nosuid", "nodev", "ro" if "readonly" in given else "rw"]
    return {"destination": given["target"], "type": "bind", "source": given["source"], "options": options}
