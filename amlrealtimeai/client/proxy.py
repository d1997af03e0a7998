"""Which HTTP proxy leads to a service: none to this computer itself, else what the environment says."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies_environment

from amlrealtimeai.client.address import Address

_NAMES = ("grpc", "https", "http", "all")  # of the variables <name>_proxy, in either case, in gRPC's order
DIRECT = [("grpc.enable_http_proxy", 0)]
"""Channel options of a connection within this computer."""


@dataclass(frozen=True)
class Proxy:
    """url: as gRPC takes it. shown: without its password, and where it was set."""

    url: str
    shown: str


def proxy_of(address: Address) -> Proxy | None:
    """The proxy that calls to `address` go through; gRPC knows only http:// ones, others are passed over."""
    if address.is_loopback:
        return None
    found = getproxies_environment()
    if _is_excepted(address, found.get("no_grpc") or found.get("no") or ""):
        return None
    for name in _NAMES:
        scheme, _, rest = found.get(name, "").rpartition("://")
        if rest and scheme.lower() in ("", "http"):
            place = rest.rpartition("@")[2].rstrip("/")
            return Proxy(f"http://{rest}", f"http://{place} ({name}_proxy in the environment)")
    return None


def options(proxy: Proxy | None) -> list[tuple[str, Any]]:
    """Channel options that make gRPC use that proxy, and no other."""
    return [("grpc.http_proxy", proxy.url)] if proxy else DIRECT


def _is_excepted(address: Address, names: str) -> bool:
    """Whether no_proxy names the host: itself, a domain that it is in, "*", or a network ("10.0.0.0/8")."""
    host = address.host.lower()
    for entry in re.split(r"[,\s]+", names.lower()):
        name = entry.removesuffix(f":{address.port}").strip("[]").lstrip(".")
        if name and (name in ("*", host) or host.endswith(f".{name}") or _is_in(host, name)):
            return True
    return False


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
