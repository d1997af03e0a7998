"""Why a port could not be had, and who has it."""

import errno
import socket
from pathlib import Path

from amlrealtimeai.errors import DeploymentError

_LISTEN = "0A"


def address_of(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_error(host: str, port: int) -> DeploymentError:
    """Try the address again with a plain socket, and say in words what is wrong with it."""
    address = address_of(host, port)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
            probe.listen()
    except socket.gaierror:
        return DeploymentError(f"cannot serve on {address}: {host!r} is not a name or address of this computer")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _taken(address, port)
        if error.errno == errno.EACCES:
            return DeploymentError(f"cannot serve on {address}: ports below 1024 need privileges; choose a higher one")
        return DeploymentError(f"cannot serve on {address}: {error.strerror}; choose an address of this computer")
    return DeploymentError(f"cannot serve on {address}, which was taken for a moment; try again")


def _taken(address: str, port: int) -> DeploymentError:
    holder = _holder(port)
    who = f"process {holder} has it" if holder else "another process has it, perhaps a service or notebook left running"
    return DeploymentError(
        f"cannot serve on {address}: port {port} is taken ({who}). Stop that one, or choose another port; "
        f"port 0 takes any free one. `ss -ltnp 'sport = :{port}'` shows who listens."
    )


def _holder(port: int) -> str | None:
    """ "pid (name)" of the process that listens on the port, where /proc tells."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if str(link.readlink()) in inodes:
                process = link.parent.parent
                return f"{process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:
            continue
    return None
