"""Metrics and traces of what a run does: for Prometheus, and for OpenTelemetry (extra ``metrics``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..bundle import AioDownloadBundle
from ..errors import MissingExtraError
from ..events import Attempted, Cancelled, Event, HostPaused, Received, RetryScheduled, RunFinished, RunStarted, Settled
from ..redact import printable, redact

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider
    from prometheus_client import CollectorRegistry

__all__ = ["PrometheusObserver", "TraceObserver"]

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
SIZES = tuple(10.0**power for power in range(3, 12))


class PrometheusObserver:
    """An observer that counts for Prometheus.

    :param registry: a :class:`prometheus_client.CollectorRegistry`; None: the one that everybody has.
    :param namespace: the beginning of all names (str).
    :raises MissingExtraError: without ``prometheus-client`` (extra ``metrics``).
    :raises ValueError: if the registry has these names already: make one observer, and give it to all that shall count.

    ===========================================  =========  =====================================================
    ``aiodownload_urls_total{status}``           counter    ``done``, ``cached``, ``failed``, ``cancelled``
    ``aiodownload_attempts_total``               counter    tries
    ``aiodownload_retries_total{error}``         counter    tries that failed and are made again, by the class
    ``aiodownload_received_bytes_total``         counter    bytes of bodies, as servers send them
    ``aiodownload_host_pauses_total``            counter    how often a host was to be left alone
    ``aiodownload_runs``                         gauge      calls under way
    ``aiodownload_active``                       gauge      bundles under way
    ``aiodownload_waiting``                      gauge      bundles that wait for their next try
    ``aiodownload_duration_seconds``             histogram  from the first request to the outcome
    ``aiodownload_file_size_bytes``              histogram  of files that were written
    ===========================================  =========  =====================================================

    No label holds a URL or a host: a million of them would be a million time series.
    """

    __module__ = "aiodownload"  # where everybody finds it

    event_types = (RunStarted, Attempted, Received, RetryScheduled, HostPaused, Settled, Cancelled, RunFinished)

    def __init__(self, registry: CollectorRegistry | None = None, namespace: str = "aiodownload") -> None:
        try:
            from prometheus_client import REGISTRY, Counter, Gauge, Histogram
        except ImportError as error:
            raise MissingExtraError("PrometheusObserver", "metrics") from error
        where: dict[str, Any] = {"namespace": namespace, "registry": REGISTRY if registry is None else registry}
        self._urls = Counter("urls_total", "Outcomes of URLs", ["status"], **where)
        self._attempts = Counter("attempts_total", "Tries", **where)
        self._retries = Counter("retries_total", "Tries that failed and are made again", ["error"], **where)
        self._bytes = Counter("received_bytes_total", "Bytes of bodies, as sent", **where)
        self._pauses = Counter("host_pauses_total", "How often a host was to be left alone", **where)
        self._runs = Gauge("runs", "Calls under way", **where)
        self._active = Gauge("active", "URLs under way", **where)
        self._waiting = Gauge("waiting", "URLs that wait for their next try", **where)
        self._seconds = Histogram("duration_seconds", "From first request to outcome", buckets=SECONDS, **where)
        self._sizes = Histogram("file_size_bytes", "Files that were written", buckets=SIZES, **where)
        self._under_way: set[int] = set()
        self._to_come: set[int] = set()

    def on_event(self, event: Event) -> None:
        """Count it."""
        if isinstance(event, Received):
            self._bytes.inc(event.count)
        elif isinstance(event, Attempted):
            self._attempts.inc()
            self._to_come.discard(id(event.bundle))
            self._under_way.add(id(event.bundle))
        elif isinstance(event, RetryScheduled):
            self._retries.labels(type(event.error).__name__).inc()
            self._under_way.discard(id(event.bundle))
            self._to_come.add(id(event.bundle))
        elif isinstance(event, Settled | Cancelled):
            self._settled(event.bundle)
        elif isinstance(event, HostPaused):
            self._pauses.inc()
        elif isinstance(event, RunStarted):
            self._runs.inc()
        elif isinstance(event, RunFinished):
            self._runs.dec()
        if not isinstance(event, Received):
            self._active.set(len(self._under_way))
            self._waiting.set(len(self._to_come))

    def _settled(self, bundle: AioDownloadBundle) -> None:
        self._under_way.discard(id(bundle))
        self._to_come.discard(id(bundle))
        self._urls.labels(bundle.status.name.lower()).inc()
        if bundle.attempts:
            self._seconds.observe(bundle.elapsed)
        if bundle.ok and bundle.attempts and bundle.size is not None:
            self._sizes.observe(bundle.size)


class TraceObserver:
    """An observer that makes a span for every URL, from its first request to its outcome, for OpenTelemetry.

    :param tracer_provider: an :class:`opentelemetry.trace.TracerProvider`; None: the one that is set for the program.
    :raises MissingExtraError: without ``opentelemetry-api`` (extra ``metrics``).

    Attributes have the names of OpenTelemetry's semantic conventions where there are any: ``url.full`` (without
    password), ``server.address``, ``http.request.method``, ``http.response.status_code``,
    ``http.request.resend_count``, ``error.type``, and ``aiodownload.status``, ``aiodownload.size``,
    ``aiodownload.verified``.  A try that is made again is an event ``retry``.
    """

    __module__ = "aiodownload"  # where everybody finds it

    event_types = (Attempted, RetryScheduled, Settled, Cancelled)

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise MissingExtraError("TraceObserver", "metrics") from error
        from .._version import __version__

        self._trace = trace
        self._tracer = trace.get_tracer("aiodownload", __version__, tracer_provider)
        self._spans: dict[int, Span] = {}

    def on_event(self, event: Event) -> None:
        """Begin a span, note something on it, or end it."""
        if not isinstance(event, Attempted | RetryScheduled | Settled | Cancelled):
            return
        if isinstance(event, Attempted):
            if id(event.bundle) not in self._spans:
                self._spans[id(event.bundle)] = self._began(event.bundle)
        elif isinstance(event, RetryScheduled):
            span = self._spans.get(id(event.bundle))
            if span is not None:
                said = printable(str(event.error))
                span.add_event(
                    "retry", {"error.type": type(event.error).__name__, "error.message": said, "delay": event.delay}
                )
        else:
            span = self._spans.pop(id(event.bundle), None)
            if span is not None:
                self._ended(span, event.bundle)

    def _began(self, bundle: AioDownloadBundle) -> Span:
        method = "POST" if bundle.params else "GET"
        attributes = {"url.full": redact(bundle.url), "http.request.method": method}
        host = bundle._parse().host
        if host:
            attributes["server.address"] = host
        return self._tracer.start_span(f"download {method}", kind=self._trace.SpanKind.CLIENT, attributes=attributes)

    def _ended(self, span: Span, bundle: AioDownloadBundle) -> None:
        span.set_attribute("aiodownload.status", bundle.status.name.lower())
        span.set_attribute("aiodownload.verified", bundle.verified.value)
        if bundle.size is not None:
            span.set_attribute("aiodownload.size", bundle.size)
        if bundle.http_status is not None:
            span.set_attribute("http.response.status_code", bundle.http_status)
        if bundle.attempts > 1:
            span.set_attribute("http.request.resend_count", bundle.attempts - 1)
        if bundle.error is not None:
            span.set_attribute("error.type", type(bundle.error).__name__)
            span.set_status(self._trace.StatusCode.ERROR, printable(str(bundle.error)))
        span.end()
