"""Metrics for Prometheus, from the job table: the same from every ingress replica, and true after any restart."""

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from starlette.responses import Response

from serving.api.access import METRICS_PATH
from serving.api.backend import UsesBackend
from serving.store.load import Load, measure_load

router = APIRouter()
RECENT_S = 900.0
QUANTILES = (0.5, 0.99)


@router.get(METRICS_PATH, response_class=Response)
def metrics(backend: UsesBackend) -> Response:
    """How many jobs everybody has, how long they wait, and how long each part of making a video takes."""
    registry = CollectorRegistry()
    registry.register(_Collector(measure_load(backend.jobs.database, time.time(), RECENT_S)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Collector:
    """The metrics of one moment."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def collect(self) -> Iterable[Metric]:
        """All of them, as the client library wants them."""
        jobs = GaugeMetricFamily("skyloom_jobs", "Jobs that exist, by status.", labels=["status"])
        for status, number in self._load.by_status.items():
            jobs.add_metric([status], number)
        yield jobs
        yield GaugeMetricFamily(
            "skyloom_queue_oldest_seconds", "How long the oldest waiting job has waited.", self._load.oldest_wait_s
        )
        yield _quantiles(
            "skyloom_recent_seconds",
            f"Parts of the videos completed in the last {RECENT_S:g} s: wait, then what the replica did.",
            self._load.recent_s,
        )


def _quantiles(name: str, text: str, values: Mapping[str, Sequence[float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["part", "quantile"])
    for part, times in sorted(values.items()):
        for quantile in QUANTILES:
            family.add_metric([part, f"{quantile:g}"], float(np.quantile(times, quantile)))
    return family
