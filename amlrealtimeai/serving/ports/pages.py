"""What probes and Prometheus ask a server: /livez, /readyz, /healthz, /metrics.

On the REST port, where there are keys, /metrics names no models. The admin port is plain text, for this computer or
the inside of a pod, and has everything.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from amlrealtimeai.serving.ports.http_port import Exchange, Response
from amlrealtimeai.serving.request.metrics import Metrics
from amlrealtimeai.serving.request.servicer import Servicer

if TYPE_CHECKING:
    from amlrealtimeai.serving.server import Server

_METRICS = "text/plain; version=0.0.4; charset=utf-8"
Pages = dict[str, Callable[[], Response]]


def public_pages(server: "Server", servicer: Servicer, metrics: Metrics) -> Pages:
    """Those of the REST port."""

    def scrape() -> Response:
        return Response(200, metrics.text(names=not servicer.table.all_keys(servicer.keys)), _METRICS)

    return {"/healthz": lambda: _ready(server), "/metrics": scrape, "/monitoring/prometheus/metrics": scrape}


def admin_pages(server: "Server", metrics: Metrics) -> Pages:
    """Those of the admin port."""
    return {
        "/livez": lambda: _state("ok" if server.answers else "hung", server.answers),
        "/readyz": lambda: _ready(server),
        "/healthz": lambda: _ready(server),
        "/metrics": lambda: Response(200, metrics.text(), _METRICS),
    }


class Admin:
    """Handles the exchanges of the admin port."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def handle(self, exchange: Exchange) -> None:
        """Answer one exchange."""
        page = self._pages.get(exchange.path)
        if page is None or exchange.method not in ("GET", "HEAD"):
            await exchange.answer(Response(404, f"expected GET {', '.join(self._pages)}\n".encode(), "text/plain"))
        else:
            await exchange.answer(page())


def _ready(server: "Server") -> Response:
    if not server.answers:
        return _state("hung", False)
    return _state("draining" if server.draining else "ok", not server.draining)


def _state(text: str, fine: bool) -> Response:
    return Response(200 if fine else 503, f"{text}\n".encode(), "text/plain")
