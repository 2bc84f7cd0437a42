"""A Firestore that answers every call with one refusal, as Google's own does: what no emulator says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]


class RefusingFirestore(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method's answer: this status, with an ErrorInfo where a reason is given."""

    def __init__(self, status: str, message: str, reason: str = "") -> None:
        self._status = status_pb2.Status(code=code_pb2.Code.Value(status), message=message)
        if reason:
            info = error_details_pb2.ErrorInfo(reason=reason, domain="googleapis.com")
            info.metadata["service"] = "firestore.googleapis.com"
            self._status.details.add().Pack(info)
        self.calls = 0
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: Any) -> Any:
        """Any method, whatever it takes and answers."""
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    def _refuse(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self.calls += 1
        context.abort_with_status(rpc_status.to_status(self._status))
        yield b""

    def stop(self) -> None:
        self._server.stop(None).wait()
