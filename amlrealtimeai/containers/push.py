"""Bring an image file to a registry, with skopeo: it needs no daemon, and knows the logins of podman and docker."""

import ipaddress
import shutil
import subprocess
from pathlib import Path

from amlrealtimeai.containers.archive import verify_image
from amlrealtimeai.errors import ContainerError

_SECONDS = 600.0


def push(image: Path | str, reference: str, *, authfile: Path | str | None = None) -> str:
    """Copy the image file to `reference` ("registry/name:tag"); returns "registry/name@sha256:...", for good.

    authfile: where logins are, as `skopeo login --authfile` and `podman login` write it; default: theirs. The registry
    is reached by TLS; only one on this machine may do without. Raises ContainerError with the registry's own words.
    """
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise ContainerError(
            "pushing an image needs skopeo: apt install skopeo (Debian, Ubuntu), dnf install skopeo (Fedora), "
            "brew install skopeo (macOS); or load the file with podman or docker and push it from there"
        )
    checked = verify_image(Path(image))
    registry, _, rest = reference.partition("/")
    if not rest or not ("." in registry or ":" in registry or registry == "localhost"):
        raise ContainerError(
            f"expected the reference of an image in a registry, such as host:5000/name:tag, got {reference!r}"
        )
    command = [skopeo, "copy", "--quiet", "--preserve-digests"]
    command += ["--dest-tls-verify=false"] if _is_here(registry) else []
    command += ["--dest-authfile", str(authfile)] if authfile else []
    command += [f"oci-archive:{image}", f"docker://{reference}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ContainerError(
            f"pushing {reference} took more than {_SECONDS:.0f} s; is the registry reachable?"
        ) from None
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        hint = f"; log in first: skopeo login {registry}" if "unauthorized" in words or "denied" in words else ""
        raise ContainerError(f"{reference} could not be pushed: {words[-500:]}{hint}")
    name = reference.rpartition(":")[0] if ":" in rest else reference
    return f"{name}@{checked.digest}"


def _is_here(registry: str) -> bool:
    host = registry.rsplit(":", 1)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
