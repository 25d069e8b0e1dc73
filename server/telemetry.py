"""What Prometheus scrapes: counts kept as things happen, the rest read when asked.

Names and units are Prometheus' own conventions: base units, `_total` of counters, `_ratio` of
shares (https://prometheus.io/docs/practices/naming/).
"""

import platform
from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server import __version__

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
WAIT_BUCKETS_S = (0.1, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT"})
OF_A_REQUEST = ("method", "route")
Sample = tuple[dict[str, str], float]


class Telemetry:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[tuple[str, str, int, bool], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self._registry)
        build = Gauge(
            "orrery_build_info", "What runs.", ("version", "python"), registry=self._registry
        )
        build.labels(__version__, platform.python_version()).set(1)
        self._requests = Counter(
            "orrery_http_requests", "Answers.", (*OF_A_REQUEST, "status"), registry=self._registry
        )
        self._durations = Histogram(
            "orrery_http_request_duration_seconds",
            "Time to an answer, but of those that are to wait.",
            OF_A_REQUEST,
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._waits = Histogram(
            "orrery_http_wait_duration_seconds",
            "Time of long polls, claims and streams, which end when there is something to tell.",
            OF_A_REQUEST,
            buckets=WAIT_BUCKETS_S,
            registry=self._registry,
        )
        self._finished = Counter(
            "orrery_jobs_finished",
            "Jobs that are over, since the server began.",
            ("kind", "status", "stop_reason"),
            registry=self._registry,
        )
        self.finished_through: int | None = None  # the event up to which they are counted

    def count_request(
        self, method: str, route: str, status: int, seconds: float, *, waits: bool
    ) -> None:
        """An answer went out.

        Args:
            route: its template, one of few.
            waits: whether it was to wait for something.
        """
        known = method if method in METHODS else "other"
        key = known, route, status, waits
        counter = self._counters.get(key)
        if counter is None:
            durations = self._waits if waits else self._durations
            count = self._requests.labels(known, route, str(status))
            counter = self._counters[key] = count, durations.labels(known, route)
        count, time_taken = counter
        count.inc()
        time_taken.observe(seconds)

    def count_finished(self, finished: Iterable[tuple[str, str, str]], through: int) -> None:
        """Jobs are over: kind, status and reason of each, up to an event."""
        for kind, status, stop_reason in finished:
            self._finished.labels(kind, status, stop_reason).inc()
        self.finished_through = through

    def exposition(self, gauges: dict[tuple[str, str], list[Sample]]) -> bytes:
        """The text format, with what is true at this moment.

        Args:
            gauges: (name, help) → labels and value of each sample.
        """
        now = CollectorRegistry()
        now.register(_Gauges(gauges))
        return generate_latest(self._registry) + generate_latest(now)


class _Gauges(Collector):
    def __init__(self, gauges: dict[tuple[str, str], list[Sample]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for (name, documentation), samples in self._gauges.items():
            family = GaugeMetricFamily(name, documentation)
            for labels, value in samples:
                family.add_sample(name, labels, value)
            yield family
