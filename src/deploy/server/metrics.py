"""What Prometheus reads at /metrics; of several processes together."""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from src.deploy.server.flags import SHARED

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of a process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry, "namespace": "leyden"}
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], **own)
        self.seconds = Histogram("request_seconds", "From the headers of a request to its answer.", ["path"], **own)
        self.inputs = Counter("inputs", "Images, texts or rows, by whether they have an answer.", ["result"], **own)
        self.batches = Histogram("batch_inputs", "Inputs that went through the model together.", buckets=SIZES, **own)
        self.waiting = Gauge(
            "waiting_requests", "Requests whose inputs the model has yet to answer.", multiprocess_mode="livesum", **own
        )

    def text(self) -> bytes:
        """Return what Prometheus reads."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)
