"""A gRPC server between the job and the Firestore emulator, which refuses what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

Refusal = tuple[grpc.StatusCode, str]
STREAMS = ("RunQuery", "BatchGetDocuments")
DOWN: Refusal = (grpc.StatusCode.UNAVAILABLE, "down for a while")


class Between(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Passes calls on as bytes; `rule` gets the method's name and the request, and may refuse."""

    def __init__(
        self,
        host: str,
        credentials: grpc.ServerCredentials | None = None,
        lets_in: Callable[[str], Refusal | None] | None = None,
    ) -> None:
        self.rule: Callable[[str, bytes], Refusal | None] = lambda method, request: None
        self._channel = grpc.insecure_channel(host)
        self._server = grpc.server(ThreadPoolExecutor(32), handlers=[self])
        self._lets_in = lets_in
        at = "127.0.0.1:0"
        self.port = self._server.add_secure_port(at, credentials) if credentials else self._server.add_insecure_port(at)
        self._server.start()

    def service(self, call: Any) -> grpc.RpcMethodHandler:
        method = call.method.rpartition("/")[2]
        sent = dict(call.invocation_metadata)
        metadata = [
            ("authorization", "Bearer owner"),
            ("google-cloud-resource-prefix", sent.get("google-cloud-resource-prefix", "")),
        ]

        def refused(request: bytes, context: grpc.ServicerContext) -> None:
            outside = self._lets_in(sent.get("authorization", "")) if self._lets_in else None
            if refusal := outside or self.rule(method, request):
                context.abort(*refusal)

        def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
            refused(request, context)
            answer = b""
            try:
                answer = self._channel.unary_unary(call.method)(request, metadata=metadata)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            return answer

        def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            refused(request, context)
            try:
                yield from self._channel.unary_stream(call.method)(request, metadata=metadata)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        if method in STREAMS:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)

    def env(self) -> dict[str, str]:
        return {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{self.port}"}

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()
