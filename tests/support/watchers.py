"""Loopback fakes of who watches from outside: a collector that decodes OTLP, and a heartbeat's receiver."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

from tests.support.web import LoopbackServer


class Collector(LoopbackServer):
    """Decodes what it gets by the protocol's own messages. `hangs`: it takes a request and never answers."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.requests: Counter[str] = Counter()
        self._hangs = hangs
        self.status = 200
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.requests[request.path] += 1
        if self._hangs:
            await asyncio.sleep(3600)
        body = await request.read()
        if self.status != 200:
            return web.Response(status=self.status)
        if request.path == "/v1/traces":
            for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(_attributes(traced.resource))
                self.spans += [span for scope in traced.scope_spans for span in scope.spans]
        else:
            assert request.path == "/v1/metrics"
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(_attributes(measured.resource))
                self.metrics += [metric for scope in measured.scope_metrics for metric in scope.metrics]
        return web.Response(content_type="application/x-protobuf")

    @property
    def points(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Of each metric its series: attributes, and the value; of a histogram how often it was measured."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for metric in self.metrics:
            assert metric.name not in found, f"{metric.name} came twice"
            kind = metric.WhichOneof("data")
            found[metric.name] = [
                (_attributes(point), point.count if kind == "histogram" else point.as_int + point.as_double)
                for point in getattr(metric, kind).data_points
            ]
        return found


def _attributes(one: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in one.attributes}


def attributes_of(span: Any) -> dict[str, Any]:
    """Of a span, each by its name."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


class Beats(LoopbackServer):
    """Remembers each request's path and body, in order. `hangs` those paths; answers others with `status`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.runs: list[str] = []  # of each request, which run it is about
        self.hangs: tuple[str, ...] = ()
        self.status = 200
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path, _, run = request.path_qs.rpartition("rid=")
        self.told.append((path.rstrip("?&"), (await request.read()).decode()))
        self.runs.append(run)
        if request.path.endswith(self.hangs or ("never",)):
            await asyncio.sleep(3600)
        headers = {"Location": self.url} if self.status == 302 else {}
        return web.Response(status=self.status, headers=headers)
