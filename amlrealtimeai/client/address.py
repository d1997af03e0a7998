"""Where a service is: host, port and whether it speaks TLS, from all the ways in which people write that."""

import ipaddress
import operator
import re
from dataclasses import dataclass
from typing import Any

from amlrealtimeai.errors import InvalidInputError

_TLS_OF = {"": None, "http": False, "https": True}
_USUAL = {False: 80, True: 443}
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


@dataclass(frozen=True)
class Address:
    """host: a name or an IP address, without brackets."""

    host: str
    port: int
    use_ssl: bool

    @property
    def target(self) -> str:
        """host:port, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer can be meant."""
        name, ip = self.host.lower().rstrip("."), _ip(self.host)
        if ip is None:
            return name in _LOCAL_NAMES or name.endswith(".localhost")
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return bool(ip.is_loopback or ip.is_unspecified)


def resolve(address: Any, port: Any, use_ssl: bool, usual_port: bool) -> Address:
    """The Address that a caller means.

    address: a host, perhaps with its port, a scheme in front and a path behind ("127.0.0.1:5", "[::1]:5",
    "https://host/score"). port: a number or its text; the address's own port wins over none, 80 and 443, which old
    programs pass beside it. Without any port: 80, with TLS 443, if `usual_port`, else a ValueError.
    Raises InvalidInputError (a ValueError) for what is no address, and for two ports or schemes that contradict.
    """
    if address is None or address == "":
        raise ValueError("address is required: the name or IP address of the service")
    if not isinstance(address, str):
        raise InvalidInputError(f"expected the address as a text such as '127.0.0.1', got {address!r}")
    head, mark, rest = address.strip().partition("://")
    scheme = head.lower() if mark else ""
    if scheme not in _TLS_OF:
        raise InvalidInputError(f"expected an address with http:// or https:// in front, or none, got {address!r}")
    if isinstance(use_ssl, str | bytes):  # "False" would be true
        raise InvalidInputError(f"use_ssl: expected True or False, got the text {use_ssl!r}")
    secure = _TLS_OF[scheme]
    if secure is False and use_ssl:
        raise InvalidInputError(f"the address {address!r} says http, but use_ssl=True is given: leave one of them out")
    secure = bool(use_ssl) if secure is None else secure
    host, own = _split(re.split(r"[/?#]", rest if mark else head, maxsplit=1)[0], address)
    given = None if port is None else port_number(port)
    if own is None:
        if given is None and not usual_port:
            raise ValueError("port is required: the port of the service")
        return Address(host, given or _USUAL[secure], secure)
    if given not in (None, own, *_USUAL.values()):
        raise InvalidInputError(f"the address {address!r} has port {own}, but port={given} is given: leave one out")
    return Address(host, own, secure)


def port_number(port: Any) -> int:
    """A port from a number (Python's or NumPy's) or a text of digits; InvalidInputError for anything else."""
    try:
        if isinstance(port, str):
            number = int(port) if re.fullmatch(r"\s*[0-9]{1,9}\s*", port) else 0
        else:
            number = 0 if isinstance(port, bool) else operator.index(port)
    except TypeError:
        number = 0
    if not 1 <= number <= 65535:
        raise InvalidInputError(f"expected a port from 1 to 65535, got {port!r}")
    return number


def _split(text: str, address: str) -> tuple[str, int | None]:
    """Host and own port of "host", "host:5", "::1", "[::1]" or "[::1]:5"."""
    if text.startswith("["):
        host, closed, tail = text[1:].partition("]")
        well_formed = bool(closed) and tail[:1] in ("", ":") and _ip(host) is not None
        port = tail[1:]
    elif text.count(":") > 1:
        host, port, well_formed = text, "", _ip(text) is not None
    else:
        host, _, port = text.partition(":")
        well_formed = bool(re.fullmatch(r"[^\s@\[\]%\\]+", host))
    if not well_formed:
        raise InvalidInputError(
            f"expected an address such as 'host', '127.0.0.1:50051' or '[::1]:50051', got {address!r}"
        )
    return host, port_number(port) if port else None


def _ip(host: str) -> Any:
    try:
        return ipaddress.ip_address(host.partition("%")[0])  # without the zone of a link-local address
    except ValueError:
        return None
