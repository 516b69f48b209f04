"""Spans from a request to each denoising step, sent to an OpenTelemetry collector where one is configured.

A job carries its request's context in the table, so the replica's spans hang below the request that asked for it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from serving.config import ServeConfig

PARENT = "traceparent"
tracer = trace.get_tracer("skyloom")


def send_spans(config: ServeConfig, component: str) -> None:
    """Sends this process's spans to the collector, if there is one; costs nothing otherwise."""
    if not config.otlp_url or isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider(resource=Resource.create({"service.name": f"skyloom-{component}"}))
    exporter = OTLPSpanExporter(endpoint=f"{config.otlp_url.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)


def current_parent() -> str:
    """The span of this moment as text, for a row of a table; empty without one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(PARENT, "")


def context_of(parent: str) -> Context:
    """The context that a text of `current_parent` (or a client's header) stands for."""
    return propagate.extract({PARENT: parent} if parent else {})


@contextmanager
def batch_span(parents: Sequence[str]) -> Iterator[None]:
    """The span of a batch: below its first job's request, linked with the others."""
    others = [trace.get_current_span(context_of(parent)).get_span_context() for parent in parents[1:]]
    links = [trace.Link(other) for other in others if other.is_valid]
    with tracer.start_as_current_span("make", context=context_of(parents[0]), links=links):
        yield


class StepSpans:
    """A span for each step of a generator, ended when the next begins."""

    def __init__(self) -> None:
        self._begun_ns = time.time_ns()

    def step(self, percent: int) -> None:
        """Ends the span of the step that was just done."""
        now = time.time_ns()
        span = tracer.start_span("step", start_time=self._begun_ns, attributes={"progress": percent})
        span.end(now)
        self._begun_ns = now
