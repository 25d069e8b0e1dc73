"""What Prometheus scrapes: counts of requests kept as they happen, the rest read when asked."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
Sample = tuple[dict[str, str], float]


class Telemetry:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}  # by method, status
        self._requests = Counter(
            "orrery_http_requests", "Answers.", ("method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "orrery_http_request_seconds",
            "Time to an answer; long polls and streams count whole.",
            ("method",),
            buckets=BUCKETS_S,
            registry=self._registry,
        )

    def count_request(self, method: str, status: int, seconds: float) -> None:
        """An answer went out."""
        known = method if method in {"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT"} else "other"
        counter = self._counters.get((known, status))
        if counter is None:
            counter = self._requests.labels(known, str(status)), self._seconds.labels(known)
            self._counters[known, status] = counter
        count, time_taken = counter
        count.inc()
        time_taken.observe(seconds)

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
