"""What an operator sees: metrics of the job table, and traces from a request to each denoising step."""

import gzip
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from typing import get_args

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from prometheus_client.parser import text_string_to_metric_families

from serving import tracing
from serving.config import ServeConfig
from serving.store.database import Database
from serving.store.keys import KeyTable, Scope
from serving.store.webhooks import WebhookTable
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


def samples(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics").text
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_follow_the_jobs(client: TestClient, worker: Worker) -> None:
    for _ in range(2):
        client.post("/v1/videos", json=A_VIDEO)
    before = samples(client)
    assert before["skyloom_jobs|queued"] == 2
    assert before["skyloom_queue_oldest_seconds"] > 0
    assert worker.run_one()
    after = samples(client)
    assert after["skyloom_jobs|completed"] == 2
    assert after["skyloom_queue_oldest_seconds"] == 0
    for part in ("wait", "sample", "step", "decode", "check", "write"):
        assert 0 <= after[f"skyloom_recent_seconds|{part}|0.5"] <= after[f"skyloom_recent_seconds|{part}|0.99"] < 60


def test_every_reply_carries_the_headers_that_keep_browsers_out(client: TestClient) -> None:
    for path in ("/healthz", "/v1/videos", "/v1/videos/none", "/nowhere"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")


class Collector(HTTPServer):
    """An OpenTelemetry collector: keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans = []


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        self.server.spans += [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    server = Collector()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("skyloom")
    for module in ("serving.tracing", "serving.finisher", "serving.api.middleware"):
        monkeypatch.setattr(f"{module}.tracer", tracer)
    yield server
    provider.shutdown()
    server.shutdown()
    server.server_close()


def test_a_trace_leads_from_the_request_to_each_step(client: TestClient, worker: Worker, collector: Collector) -> None:
    reply = client.post("/v1/videos", json=A_VIDEO, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert reply.status_code == 200
    assert worker.run_one()
    mine = [span for span in collector.spans if span.trace_id.hex() == "a" * 32]
    by_name = {span.name: span for span in mine}
    request, batch = by_name["POST /v1/videos"], by_name["make"]
    assert request.parent_span_id.hex() == "b" * 16
    assert batch.parent_span_id == request.span_id
    steps = [span for span in mine if span.name == "step"]
    assert len(steps) >= 3
    assert all(span.parent_span_id == batch.span_id for span in steps)
    assert all(before.end_time_unix_nano <= after.start_time_unix_nano + 1 for before, after in pairwise(steps))


def test_no_secret_is_in_logs_metrics_or_traces(
    client: TestClient, worker: Worker, collector: Collector, config: ServeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """S7: neither a key that lives, nor one that is wrong, nor what signs webhooks."""
    caplog.set_level(logging.DEBUG)
    database = Database(config.database_url)
    live = KeyTable(database).create("live", scopes=get_args(Scope))
    webhooks = WebhookTable(database)
    endpoint = webhooks.create(live.key.owner, name="n", url="https://a.org/", event_types=["video.completed"])
    secrets = [live.secret, endpoint.secret, "sk-skyloom-a-wrong-one"]
    for secret in (secrets[0], secrets[2]):
        header = {"authorization": f"Bearer {secret}"}
        for method, path, body in (
            ("POST", "/v1/videos", A_VIDEO),
            ("POST", "/v1/videos", {}),
            ("GET", "/v1/videos", None),
            ("GET", f"/v1/webhook_endpoints/{endpoint.id}", None),
            ("GET", "/nowhere", None),
        ):
            assert client.request(method, path, json=body, headers=header).status_code < 500
    assert worker.run_one()
    told = [client.get("/metrics", headers={"authorization": f"Bearer {live.secret}"}).text]
    client.app.state.backend = None
    broken = client.get("/v1/videos", headers={"authorization": f"Bearer {live.secret}"})
    assert broken.status_code == 500
    assert "Traceback" in caplog.text
    assert len(collector.spans) > 10
    told += [broken.text, caplog.text, *(str(span) for span in collector.spans)]
    assert [secret for secret in secrets for text in told if secret in text] == []


def test_without_a_collector_nothing_is_set_up(config) -> None:
    before = trace.get_tracer_provider()
    tracing.send_spans(config, "api")
    assert trace.get_tracer_provider() is before
    assert tracing.current_parent() == ""
