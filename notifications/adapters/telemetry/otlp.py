"""Metrics and traces over OTLP/HTTP, as OTEL_… says; docs/events.md lists their names, none of which names a user."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from notifications.adapters.telemetry.heartbeat import DaemonTask
from notifications.domain.money import Spent
from notifications.ports import Telemetry

log = structlog.get_logger()

NAME, UNKNOWN = "daily-recap", "unknown_service"
FAREWELL_SECONDS = 1.0  # for all that is not yet sent: with a dead collector a flush takes 7 to 10 s, and says nothing
ENDINGS = (
    *("sent", "skipped", "done_before", "missed", "dead", "gave_up"),
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
        self._sends = (_Spans(), _Metrics())
        self._traces.add_span_processor(BatchSpanProcessor(self._sends[0]))
        reader = PeriodicExportingMetricReader(self._sends[1])
        self._metrics = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer(NAME)
        self._root = self._tracer.start_span("recap tick")
        self._below_root = trace.set_span_in_context(self._root)
        self._begun = time.monotonic()
        meter = self._metrics.get_meter(NAME)
        self._users = meter.create_counter("recap.users", "{user}")
        self._counted = {name: meter.create_counter(f"recap.{name}") for name in COUNTED}
        self._documents = meter.create_counter("recap.documents", "{document}")
        self._cost = meter.create_counter("recap.cost", "USD")
        self._run_seconds = meter.create_histogram(
            "recap.run.duration", "s", explicit_bucket_boundaries_advisory=SECONDS_BOUNDS
        )
        self._asked_seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", explicit_bucket_boundaries_advisory=SECONDS_BOUNDS
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", explicit_bucket_boundaries_advisory=TOKEN_BOUNDS
        )

    @contextmanager
    def span(self, name: str, model: str = "") -> Iterator[None]:
        """`user` below the run; `chat` and `push` below their user."""
        kind = SpanKind.INTERNAL if name == "user" else SpanKind.CLIENT
        is_first = name == "user" or not trace.get_current_span().get_span_context().is_valid
        context = self._below_root if is_first else None
        called, facts = (f"chat {model}", _of_the_llm(model)) if name == "chat" else (f"recap {name}", None)
        with self._tracer.start_as_current_span(
            called, context, kind, facts, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as raised:  # cancellation too: it goes on, told by its kind; words may quote a user's
                span.set_attribute("error.type", type(raised).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def record_call(self, spent: Spent, model: str, error: str = "") -> None:
        facts = _of_the_llm(model)
        self._asked_seconds.record(spent.seconds, {**facts, "error.type": error} if error else facts)
        for kind, count in (("input", spent.tokens_in), ("output", spent.tokens_out)):
            if count:
                self._tokens.record(count, {**facts, "gen_ai.token.type": kind})
        if not error:
            span = trace.get_current_span()
            span.set_attribute("gen_ai.usage.input_tokens", spent.tokens_in)
            span.set_attribute("gen_ai.usage.output_tokens", spent.tokens_out)

    def record_run(self, figures: Mapping[str, object]) -> None:
        """The run's counts, as `tick.finished` has them."""
        told = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
        for ending in ENDINGS:
            self._users.add(told.get(ending, 0), {"recap.ending": ending})
        for name, counter in self._counted.items():
            counter.add(told.get(name, 0))
        for kind, name in (("read", "documents_read"), ("write", "documents_written")):
            self._documents.add(told.get(name, 0), {"recap.operation": kind})
        self._cost.add(told.get("usd", 0))
        self._run_seconds.record(time.monotonic() - self._begun)
        self._root.end()

    async def aclose(self) -> None:
        """Send what is left, for a second at most; then the process goes."""
        if self._root.is_recording():
            self._root.end()
        both = [DaemonTask(self._traces.shutdown), DaemonTask(self._metrics.shutdown)]
        ends = time.monotonic() + FAREWELL_SECONDS
        in_time = [await one.ended(ends - time.monotonic()) for one in both]
        if not all(in_time) or any(one.refused for one in self._sends) or any(one.failed for one in both):
            sentence = "the collector did not take all of it; check the address, its headers, and that it speaks HTTP."
            log.warning("telemetry.failed", reason=f"OTEL_EXPORTER_OTLP_ENDPOINT: {sentence}")


class _Remembering:
    """An exporter that remembers that something was not taken: the SDK itself says nothing."""

    refused = False

    def export(self, *given: Any, **more: Any) -> Any:
        result = super().export(*given, **more)  # type: ignore[misc]
        self.refused |= result.name != "SUCCESS"
        return result


class _Spans(_Remembering, OTLPSpanExporter):  # type: ignore[misc]
    pass


class _Metrics(_Remembering, OTLPMetricExporter):  # type: ignore[misc]
    pass


def _of_the_llm(model: str) -> dict[str, str]:
    return {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model}


def _resource() -> Resource:
    """Who says it: as OTEL_… names it; else by our name, each run for itself."""
    found = Resource.create()
    ours = {"service.name": NAME, "service.instance.id": str(uuid.uuid4())}
    missing = {name for name in ours if str(found.attributes.get(name, UNKNOWN)).startswith(UNKNOWN)}
    return found.merge(Resource({name: ours[name] for name in missing}))
