# SPDX-License-Identifier: Apache-2.0
"""An OTLP receiver in this process: real HTTP, real protobuf."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Received:
    """A span, with the attributes of its process."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.trace: str = span.trace_id.hex()
        self.id: str = span.span_id.hex()
        self.parent: str = span.parent_span_id.hex()
        self.links = {link.span_id.hex() for link in span.links}
        self.attributes = values(span.attributes)
        self.events = {event.name: values(event.attributes) for event in span.events}
        self.failed = span.status.code == 2
        self.kind: int = span.kind
        self.start_ns: int = span.start_time_unix_nano
        self.end_ns: int = span.end_time_unix_nano
        self.state: str = span.trace_state
        self.resource = resource


def values(pairs: Any) -> dict[str, Any]:
    """Key-value pairs of protobuf as a mapping."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector:
    """What has come, and where to send it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Received] = []
        self.hang = threading.Event()  # set: answers do not come
        self.release = threading.Event()
        self.asked = threading.Event()

    def take(self, body: bytes) -> None:
        """Decode a request."""
        message = ExportTraceServiceRequest()
        message.ParseFromString(body)
        for group in message.resource_spans:
            resource = values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [Received(span, resource) for span in scope.spans]

    def traces(self, name: str) -> set[str]:
        """Traces of which a span of that name has come."""
        return {span.trace for span in self.named(name)}

    def named(self, name: str) -> list[Received]:
        """Spans of that name."""
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.asked.set()
            if collector.hang.is_set():
                collector.release.wait(30)
                self.close_connection = True
                return
            collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # a client that was killed
            pass

    server = Server(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield collector
    finally:
        collector.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
