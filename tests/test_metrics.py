"""Metrics and traces, against the real SDKs; and log records with data."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from conftest import Quick
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

import aiodownload
from aiodownload import PrometheusObserver, TraceObserver
from aiodownload.testing import FaultServer, cut, ok, stall, status


def test_prometheus(server: FaultServer, quick: Any) -> None:
    """What is exposed is what happened, and no label tells a URL."""
    registry = CollectorRegistry()
    counting = PrometheusObserver(registry)
    urls = [server.on("/a", ok(b"x" * 5000)), server.on("/b", status(503), cut(b"y" * 100, 10), ok(b"y" * 100))]
    for _ in range(2):
        aiodownload.swarm([*urls, server.url("/missing")], quick(observers=[counting]))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"aiodownload_{name}", labels)

    assert value("urls_total", status="done") == 4
    assert value("urls_total", status="failed") == 2
    assert value("attempts_total") == 8
    assert value("retries_total", error="StatusError") == 1
    assert value("retries_total", error="BodyError") == 1
    assert value("received_bytes_total") == 2 * 5000 + 10 + 2 * 100
    assert (value("active"), value("waiting"), value("runs")) == (0, 0, 0)
    assert value("duration_seconds_count") == 6
    assert value("file_size_bytes_sum") == 2 * 5000 + 2 * 100
    assert b"127.0.0.1" not in generate_latest(registry)


def test_prometheus_counts_what_is_cancelled(server: FaultServer, quick: Any) -> None:
    """A call that is left leaves no gauge behind."""
    registry = CollectorRegistry()
    urls = [server.on("/a", ok()), *(server.on(f"/{number}", stall()) for number in range(4))]
    for _ in aiodownload.each(urls, download=quick(Quick(concurrent=3), observers=[PrometheusObserver(registry)])):
        break
    assert registry.get_sample_value("aiodownload_active") == 0
    assert registry.get_sample_value("aiodownload_runs") == 0
    assert registry.get_sample_value("aiodownload_urls_total", {"status": "cancelled"}) == 4


def test_two_observers_of_one_registry() -> None:
    """The second one is refused by Prometheus itself."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    PrometheusObserver(registry, "other")
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusObserver(registry)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Takes what was traced."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> TraceObserver:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return TraceObserver(provider)


def test_traces(server: FaultServer, quick: Any, spans: InMemorySpanExporter, tracing: TraceObserver) -> None:
    """A span for every URL, with OpenTelemetry's names, its retries as events, and no password."""
    good = server.on("/a", status(503), ok(b"x" * 50)).replace("//", "//me:secret@")
    aiodownload.swarm([good, server.url("/missing")], quick(Quick(concurrent=1), observers=[tracing]))
    first, second = sorted(spans.get_finished_spans(), key=lambda span: str(span.attributes))
    done, failed = (first, second) if first.attributes["aiodownload.status"] == "done" else (second, first)
    assert done.kind is SpanKind.CLIENT
    assert dict(done.attributes) == {
        "url.full": server.url("/a"),
        "server.address": "127.0.0.1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
        "aiodownload.status": "done",
        "aiodownload.verified": "length",
        "aiodownload.size": 50,
    }
    (event,) = done.events
    assert (event.name, event.attributes["error.type"]) == ("retry", "StatusError")
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "StatusError"
    assert failed.attributes["http.response.status_code"] == 404


def test_traces_of_a_call_that_is_left(
    server: FaultServer, quick: Any, spans: InMemorySpanExporter, tracing: TraceObserver
) -> None:
    """Each span that was begun is ended."""
    urls = [server.on("/a", ok()), server.on("/b", stall()), server.on("/c", stall())]
    for _ in aiodownload.each(urls, download=quick(Quick(concurrent=3), observers=[tracing])):
        break
    found = sorted(str(span.attributes["aiodownload.status"]) for span in spans.get_finished_spans())
    assert found == ["cancelled", "cancelled", "done"]


@pytest.mark.parametrize(
    ("name", "package"), [("PrometheusObserver", "prometheus_client"), ("TraceObserver", "opentelemetry")]
)
def test_a_missing_extra_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(aiodownload.MissingExtraError, match=r"pip install 'aiodownload\[metrics\]'"):
        getattr(aiodownload, name)()


def test_log_records_have_data(server: FaultServer, quick: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What a JSON formatter writes, without secrets."""
    url = server.on("/a", status(503), ok(b"x")).replace("//", "//me:secret@")
    with caplog.at_level(logging.INFO, "aiodownload"):
        aiodownload.swarm([url, server.url("/missing")], quick(Quick(concurrent=1)))
    told = [entry.__dict__["download"] for entry in caplog.records if "download" in entry.__dict__]
    assert [(one["status"], one["attempts"]) for one in told if one["url"].endswith("/a")] == [
        ("Download attempted", 1),
        ("File written", 2),
    ]
    assert told[0]["error"].startswith("status 503") or told[1]["error"].startswith("status")
    assert "secret" not in json.dumps(told)
