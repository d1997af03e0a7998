"""Prometheus metrics of one server, by prometheus-client: requests by code, latency by stage, what is in flight."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.samples import Sample

from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.request.answers import Record
from amlrealtimeai.serving.request.servicer import Servicer

_BUCKETS = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
)
_STAGES = ("queue", "parse", "decode", "npu", "classifier", "build", "total")


class Metrics:
    """Observes a servicer's records; `text` is what Prometheus scrapes."""

    def __init__(self, servicer: Servicer) -> None:
        self._servicer = servicer
        self._registry = CollectorRegistry(auto_describe=True)
        labels = ("method", "model", "code")
        self._requests = Counter(
            "amlrealtimeai_requests", "Requests answered, by gRPC code.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "amlrealtimeai_stage_seconds",
            "Time of answered Predict requests by stage.",
            ("model", "stage"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._bytes = Counter(
            "amlrealtimeai_request_bytes", "Bytes of requests received.", ("model",), registry=self._registry
        )
        self._registry.register(_Gauges(servicer))
        servicer.observers.append(self.observe)

    def observe(self, record: Record) -> None:
        """Count one request."""
        known = record.model if self._servicer.table.get(record.model) is not None else ""
        self._requests.labels(record.method, known, record.code).inc()
        self._bytes.labels(known).inc(record.size)
        if record.method == "Predict" and record.code == "OK":
            for stage in _STAGES:
                if stage in record.timings:
                    self._seconds.labels(known, stage).observe(record.timings[stage])

    def text(self, names: bool = True) -> bytes:
        """The exposition text, format 0.0.4; names False: the models are added up."""
        return generate_latest(self._registry if names else _Nameless(self._registry))


class _Nameless:
    """A registry whose samples have no model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """One metric after another, as prometheus-client asks for them."""
        for metric in self._registry.collect():
            sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
            for sample in metric.samples:
                if not sample.name.endswith("_created"):
                    key = sample.name, tuple((k, v) for k, v in sample.labels.items() if k != "model")
                    sums[key] = sums.get(key, 0.0) + sample.value
            metric.samples = [Sample(name, dict(labels), value) for (name, labels), value in sums.items()]
            yield metric


class _Gauges:
    """What is true at the moment of the scrape."""

    def __init__(self, servicer: Servicer) -> None:
        self._servicer = servicer

    def _pools(self) -> Iterator[tuple[str, Pool]]:
        table = self._servicer.table
        for name in table.names():
            served = table.get(name)
            if served is not None and isinstance(served.model, Pool):
                yield name, served.model

    def collect(self) -> Iterator[Any]:
        """One gauge after another, as prometheus-client asks for them."""
        admission = self._servicer.admission
        yield GaugeMetricFamily("amlrealtimeai_in_flight", "Requests that run or wait.", admission.in_flight)
        yield GaugeMetricFamily("amlrealtimeai_waiting", "Requests that wait for a worker.", admission.waiting)
        yield GaugeMetricFamily("amlrealtimeai_bytes_in_flight", "Their bytes.", admission.bytes_in_flight)
        yield GaugeMetricFamily("amlrealtimeai_models", "Models served.", len(self._servicer.table.names()))
        replicas = GaugeMetricFamily(
            "amlrealtimeai_replicas", "Processes of a model that has several.", labels=("model", "state")
        )
        for name, pool in self._pools():
            replicas.add_metric((name, "ready"), pool.ready)
            replicas.add_metric((name, "wanted"), pool.wanted)
        yield replicas
        yield GaugeMetricFamily("amlrealtimeai_draining", "1 while shutting down.", int(self._servicer.draining))
