"""Metrics and traces over OTLP/HTTP, by the OTEL_… variables. docs/events.md lists them; none names a user."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from notifications.adapters.daemon_task import DaemonTask
from notifications.domain.money import Spent
from notifications.ports import Telemetry

log = structlog.get_logger()

NAME, UNKNOWN = "daily-recap", "unknown_service"
FLUSH_SECONDS = 1.0  # at the end of a run; with a dead collector the SDK's own flush takes 7 to 10 s
ENDINGS = (
    *("sent", "no_devices", "skipped", "done_before", "missed", "dead", "gave_up"),
    *("unreadable", "waiting", "held", "lost", "stopped", "failed"),
)
COUNTED = (
    *("extracts", "over_budget", "pushes", "pushes_refused", "tokens_deleted"),
    *("malformed", "encrypted", "defects", "stopped_early", "unserved_shards"),
)
SECONDS_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 480, 3600)
TOKEN_BOUNDS = (1, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144)


class OtlpTelemetry(Telemetry):
    """The Telemetry port, of one run."""

    def __init__(self) -> None:
        resource = _resource()
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporters = (_SpanExporter(), _MetricExporter())
        self._traces.add_span_processor(BatchSpanProcessor(self._exporters[0]))
        reader = PeriodicExportingMetricReader(self._exporters[1])
        self._metrics = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer(NAME)
        self._root = self._tracer.start_span("recap tick")
        self._below_root = trace.set_span_in_context(self._root)
        self._begun = time.monotonic()
        meter = self._metrics.get_meter(NAME)
        self._users = meter.create_counter("recap.users", "{user}")
        self._counters = {name: meter.create_counter(f"recap.{name}") for name in COUNTED}
        self._targets = meter.create_counter("recap.targets", "{target}")
        self._documents = meter.create_counter("recap.documents", "{document}")
        self._cost = meter.create_counter("recap.cost", "USD")

        def histogram(name: str, unit: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self._run_seconds = histogram("recap.run.duration", "s", SECONDS_BOUNDS)
        self._call_seconds = histogram("gen_ai.client.operation.duration", "s", SECONDS_BOUNDS)
        self._tokens = histogram("gen_ai.client.token.usage", "{token}", TOKEN_BOUNDS)

    @contextmanager
    def span(self, name: str, model: str = "") -> Iterator[None]:
        """`user` below the run; `chat` and `push` below their user."""
        kind = SpanKind.INTERNAL if name == "user" else SpanKind.CLIENT
        is_first = name == "user" or not trace.get_current_span().get_span_context().is_valid
        context = self._below_root if is_first else None
        title, attributes = (f"chat {model}", _attributes(model)) if name == "chat" else (f"recap {name}", None)
        with self._tracer.start_as_current_span(
            title, context, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as raised:  # cancellation, too. Only its class is recorded: its text may quote a user
                span.set_attribute("error.type", type(raised).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def record_call(self, spent: Spent, model: str, error: str = "") -> None:
        attributes = _attributes(model)
        self._call_seconds.record(spent.seconds, {**attributes, "error.type": error} if error else attributes)
        for kind, count in (("input", spent.tokens_in), ("output", spent.tokens_out)):
            if count:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        if not error:
            span = trace.get_current_span()
            span.set_attribute("gen_ai.usage.input_tokens", spent.tokens_in)
            span.set_attribute("gen_ai.usage.output_tokens", spent.tokens_out)

    def record_run(self, figures: Mapping[str, object]) -> None:
        """The run's counts, as `tick.finished` has them."""
        numbers = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
        for ending in ENDINGS:
            self._users.add(numbers.get(ending, 0), {"recap.ending": ending})
        for name, counter in self._counters.items():
            counter.add(numbers.get(name, 0))
        by_channel: Any = figures.get("by_channel", {})
        for channel, results in by_channel.items():
            for result, count in results.items():
                self._targets.add(count, {"recap.channel": channel, "recap.result": result})
        for kind, name in (("read", "documents_read"), ("write", "documents_written")):
            self._documents.add(numbers.get(name, 0), {"recap.operation": kind})
        self._cost.add(numbers.get("usd", 0))
        self._run_seconds.record(time.monotonic() - self._begun)
        self._root.end()

    async def aclose(self) -> None:
        """Send what is left, for a second at most."""
        if self._root.is_recording():
            self._root.end()
        flushes = [DaemonTask(self._traces.shutdown), DaemonTask(self._metrics.shutdown)]
        ends = time.monotonic() + FLUSH_SECONDS
        in_time = [await flush.wait_until_done(ends - time.monotonic()) for flush in flushes]
        if (
            not all(in_time)
            or any(exporter.refused for exporter in self._exporters)
            or any(flush.failed for flush in flushes)
        ):
            sentence = "the collector did not take all of it; check the address, its headers, and that it speaks HTTP."
            log.warning("telemetry.failed", reason=f"OTEL_EXPORTER_OTLP_ENDPOINT: {sentence}")


class _Exporter:
    """Remembers whether the collector refused anything: the SDK does not report it."""

    refused = False

    def export(self, *args: Any, **kwargs: Any) -> Any:
        result = super().export(*args, **kwargs)  # type: ignore[misc]
        self.refused |= result.name != "SUCCESS"
        return result


class _SpanExporter(_Exporter, OTLPSpanExporter):  # type: ignore[misc]
    pass


class _MetricExporter(_Exporter, OTLPMetricExporter):  # type: ignore[misc]
    pass


def _attributes(model: str) -> dict[str, str]:
    return {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model}


def _resource() -> Resource:
    """The service's name and instance, unless the OTEL_… variables set them."""
    resource = Resource.create()
    defaults = {"service.name": NAME, "service.instance.id": str(uuid.uuid4())}
    missing = {name for name in defaults if str(resource.attributes.get(name, UNKNOWN)).startswith(UNKNOWN)}
    return resource.merge(Resource({name: defaults[name] for name in missing}))
