# SPDX-License-Identifier: Apache-2.0
"""Spans of real servers, as a collector gets them: over HTTP, in protobuf."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.conftest import poll_until

from cubbyhole.seen.attached import attach
from cubbyhole.testing.serving import Served, serving

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs cubbyhole[otel]")

from tests.integration.collector import Collector, Received, collecting

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).with_name("traced_servers.py")
PARENT = "b7ad6b7169203331"


@contextmanager
def traced(name: str, **environment: str) -> Iterator[tuple[Served, Collector]]:
    """A server and the collector that gets its spans, as its operator would set them up."""
    with collecting() as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_SERVICE_NAME": "pictures",
            **environment,
        }
        with serving(
            f"{SERVERS}:{name}", arguments=["--otel"], environment=variables, timeout_s=60
        ) as server:
            yield server, collector


class Trace:
    """One test's trace in the server that most tests share."""

    def __init__(self, server: Served, collector: Collector) -> None:
        self.id = secrets.token_hex(16)
        self.server, self._collector = server, collector

    def ask(self, body: Any, path: str = "/predict", **headers: str) -> requests.Response:
        parent = {"traceparent": f"00-{self.id}-{PARENT}-01", "tracestate": "vendor=t61"}
        return ask(self.server, body, path, **parent, **headers)

    @property
    def spans(self) -> list[Received]:
        return [span for span in self._collector.spans if span.trace == self.id]

    def wait_for(self, *names: str) -> dict[str, Received]:
        poll_until(lambda: {span.name for span in self.spans} >= set(names))
        return {span.name: span for span in self.spans}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Served, Collector]]:
    with traced("every_kind") as both:
        yield both


@pytest.fixture
def trace(shared: tuple[Served, Collector]) -> Trace:
    return Trace(*shared)


def ask(server: Served, body: Any, path: str = "/predict", **headers: str) -> requests.Response:
    return requests.post(f"{server.url}{path}", json=body, headers=headers, timeout=20)


def ask_together(server: Served, bodies: list[Any], traces: list[Trace], path: str) -> None:
    threads = [
        threading.Thread(target=one.ask, args=(body, path))
        for one, body in zip(traces, bodies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_requests_spans_hang_together_over_processes(trace: Trace) -> None:
    assert trace.ask({"input": 2}).json() == {"output": 4}
    spans = trace.wait_for("POST /predict", "queue", "worker", "decode", "predict", "encode")
    assert len(trace.spans) == 6
    front = spans["POST /predict"]
    assert front.parent == PARENT
    assert front.state == spans["worker"].state == "vendor=t61"
    assert front.kind == 2
    assert spans["queue"].parent == front.id
    assert spans["worker"].parent == front.id
    assert {spans[name].parent for name in ("decode", "predict", "encode")} == {spans["worker"].id}
    assert front.resource["cubbyhole.process"].startswith("front ")
    assert spans["worker"].resource["cubbyhole.process"] == "worker 0"
    assert front.resource["process.pid"] != spans["worker"].resource["process.pid"]


def test_spans_say_what_the_request_was(trace: Trace) -> None:
    trace.ask({"input": 2}, **{"X-Request-ID": "order-17"})
    spans = trace.wait_for("POST /predict", "queue", "worker")
    front, worker = spans["POST /predict"].attributes, spans["worker"].attributes
    assert front["http.request.method"] == "POST"
    assert front["http.route"] == front["cubbyhole.endpoint"] == "/predict"
    assert front["http.response.status_code"] == worker["http.response.status_code"] == 200
    assert front["cubbyhole.request.id"] == worker["cubbyhole.request.id"]
    assert worker["cubbyhole.client_request_id"] == "order-17"
    assert worker["cubbyhole.attempt"] == 0
    assert worker["cubbyhole.request.bytes"] == len(b'{"input": 2}')
    assert spans["worker"].resource["service.name"] == "pictures"
    parts = (spans["POST /predict"], spans["queue"], spans["worker"])
    slack_ns = 1_000_000  # each takes the time of day by itself
    assert parts[0].start_ns <= parts[1].start_ns + slack_ns
    assert parts[1].start_ns <= parts[2].start_ns + slack_ns
    assert not any(span.failed for span in trace.spans)


def test_a_request_without_a_traceparent_or_with_a_broken_one_begins_a_trace() -> None:
    with traced("steps", OTEL_SERVICE_NAME="") as (server, collector):
        ask(server, {"input": 2})
        assert ask(server, {"input": 2}, traceparent="00-zz-yy-01").ok
        poll_until(lambda: len(collector.named("worker")) == 2)
        poll_until(lambda: len(collector.named("POST /predict")) == 2)
    fronts, workers = collector.named("POST /predict"), collector.named("worker")
    assert {span.parent for span in fronts} == {""}
    assert {span.trace for span in workers} == {span.trace for span in fronts}
    assert len({span.trace for span in fronts}) == 2


def test_a_client_that_does_not_sample_is_obeyed_in_all_processes(trace: Trace) -> None:
    not_sampled = {"traceparent": f"00-{trace.id}-{PARENT}-00"}
    assert ask(trace.server, {"input": 2}, **not_sampled).ok
    assert ask(trace.server, {"input": 2}, "/count", **not_sampled).ok
    later = Trace(trace.server, trace._collector)
    later.ask({"input": 2})
    later.ask({"input": 2}, "/count")
    later.wait_for("POST /predict", "POST /count", "worker")
    assert trace.spans == []


def test_over_its_budget_a_front_begins_no_trace_and_says_how_many_it_left_out() -> None:
    with traced("steps", CUBBYHOLE_OTEL_TRACES_PER_S="0.5") as (server, collector):
        for _ in range(4):  # the first has a trace, and the next one has two seconds' time
            assert ask(server, {"input": 2}).json() == {"output": 4}
        wanted = {"traceparent": f"00-{secrets.token_hex(16)}-{PARENT}-01"}
        assert ask(server, {"input": 2}, **wanted).ok
        poll_until(lambda: wanted["traceparent"][3:35] in collector.traces("worker"))
    assert collector.traces("worker") == collector.traces("POST /predict")
    assert len(collector.traces("worker")) < 5
    left_out = [
        span.attributes.get("cubbyhole.untraced", 0) for span in collector.named("POST /predict")
    ]
    assert sum(left_out) + len(left_out) == 5


def test_a_batch_is_one_span_that_links_to_its_requests(trace: Trace) -> None:
    traces = [Trace(trace.server, trace._collector) for _ in range(3)]
    ask_together(trace.server, [{"input": number} for number in range(3)], traces, "/sums")
    workers = [one.wait_for("worker", "predict", "encode")["worker"] for one in traces]
    (batch,) = poll_until(lambda: [s for one in traces for s in one.spans if s.name == "batch"])
    assert batch.links == {span.id for span in workers}
    assert batch.attributes["cubbyhole.batch.size"] == 3
    assert batch.parent in batch.links  # of the first of them, whose sampling counts
    for span in workers:
        assert batch.id in span.links
        assert span.attributes["cubbyhole.batch.size"] == 3
    assert [one.wait_for("predict")["predict"].parent for one in traces] == [s.id for s in workers]


def test_a_batch_that_fails_shows_its_error_and_the_run_of_each_item(trace: Trace) -> None:
    traces = [Trace(trace.server, trace._collector) for _ in range(3)]
    ask_together(trace.server, [{"input": number} for number in (1, 13, 2)], traces, "/sums")
    workers = [one.wait_for("worker", "predict")["worker"] for one in traces]
    assert [span.failed for span in workers] == [False, True, False]
    (batch,) = poll_until(lambda: [s for one in traces for s in one.spans if s.name == "batch"])
    assert batch.failed
    for one in traces:
        tries = [span for span in one.spans if span.name == "predict"]
        assert len(tries) == 2  # in the batch, and alone


@pytest.mark.parametrize("path", ["/count", "/acount"])
def test_a_streams_spans_last_as_long_as_it_does(path: str, trace: Trace) -> None:
    assert trace.ask({"input": 3}, path).text.count("number") == 3
    spans = trace.wait_for(f"POST {path}", "queue", "worker", "predict", "encode")
    worker = spans["worker"]
    assert worker.attributes["cubbyhole.chunks"] == 3
    assert "first chunk" in worker.events
    assert spans["predict"].parent == spans["encode"].parent == worker.id
    assert spans["predict"].end_ns <= worker.end_ns
    assert not worker.failed


def test_a_coroutines_spans_hang_together_and_a_stream_that_breaks_is_an_error(
    trace: Trace,
) -> None:
    trace.ask({"input": 1}, "/later")
    spans = trace.wait_for("POST /later", "worker", "predict")
    assert spans["predict"].parent == spans["worker"].id
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        trace.ask({"input": 3, "raise_at": 2}, "/count")
    spans = trace.wait_for("POST /count", "worker", "predict")
    assert spans["POST /count"].failed
    assert spans["POST /count"].attributes["error.type"] == "stream_broken"
    poll_until(lambda: {"predict", "worker"} <= {s.name for s in trace.spans if s.failed})


def test_an_exception_is_recorded_where_it_was_raised_and_fails_every_span_above(
    trace: Trace,
) -> None:
    assert trace.ask({"raise": 1}).status_code == 500
    spans = trace.wait_for("POST /predict", "worker", "predict")
    assert "ValueError" in spans["predict"].events["exception"]["exception.type"]
    assert "in predict" in spans["worker"].events["exception"]["exception.stacktrace"]
    for name in ("predict", "worker", "POST /predict"):
        assert spans[name].failed
    assert spans["worker"].attributes["error.type"] == "predict_failed"
    assert spans["POST /predict"].attributes["error.type"] == "predict_failed"
    assert spans["POST /predict"].attributes["http.response.status_code"] == 500


def test_a_body_that_cannot_be_read_is_the_clients_error_not_ours(trace: Trace) -> None:
    headers = {"traceparent": f"00-{trace.id}-{PARENT}-01"}
    answer = requests.post(f"{trace.server.url}/predict", data="{", headers=headers, timeout=20)
    assert answer.status_code == 400
    spans = trace.wait_for("POST /predict", "decode", "worker")
    assert not any(span.failed for span in trace.spans)
    assert spans["POST /predict"].attributes["http.response.status_code"] == 400
    assert spans["decode"].attributes["error.type"] == "malformed_body"


def test_the_front_tells_of_a_request_whose_worker_was_killed() -> None:
    with traced("steps", OTEL_SERVICE_NAME="") as (server, collector):
        assert ask(server, {"die": 1}).status_code == 503
        poll_until(lambda: collector.named("queue") and collector.named("POST /predict"))
    (front,) = collector.named("POST /predict")
    assert front.failed
    assert front.attributes["error.type"] == "worker_died"
    assert not collector.named("worker")  # its spans died with it
    assert front.resource["service.name"] == "cubbyhole"


def test_a_request_that_is_turned_away_has_a_span_that_says_why() -> None:
    with traced("small") as (server, collector):
        one = Trace(server, collector)
        assert one.ask({"input": "x" * 100}).status_code == 413
        front = one.wait_for("POST /predict")["POST /predict"]
        assert ask(server, {"input": 2}).ok
        poll_until(lambda: len(collector.named("worker")) == 1)
    assert front.parent == PARENT
    assert front.attributes["error.type"] == "payload_too_large"
    assert front.attributes["http.response.status_code"] == 413
    assert not front.failed


def test_a_request_that_is_given_up_has_a_span_that_says_so() -> None:
    with traced("impatient") as (server, collector):
        one = Trace(server, collector)
        answer = one.ask({"sleep_s": 30})
        assert (answer.status_code, answer.text) == (504, "gave up")
        front = one.wait_for("POST /predict", "queue")["POST /predict"]
    assert front.parent == PARENT
    assert front.attributes["error.type"] == "cancelled"
    assert front.attributes["cubbyhole.request.id"].isdigit()
    assert front.end_ns - front.start_ns > 400_000_000


def test_with_a_sampler_of_the_users_the_sdk_makes_the_spans() -> None:
    with traced("steps", OTEL_TRACES_SAMPLER="always_on") as (server, collector):
        one = Trace(server, collector)
        assert one.ask({"span": 1}).ok
        spans = one.wait_for("POST /predict", "queue", "worker", "decode", "predict", "mine")
        assert len(one.spans) == 7
    assert spans["POST /predict"].parent == PARENT
    assert spans["worker"].parent == spans["queue"].parent == spans["POST /predict"].id
    assert spans["mine"].parent == spans["predict"].id
    assert spans["worker"].state == "vendor=t61"
    with traced("steps", OTEL_TRACES_SAMPLER="always_off") as (server, collector):
        assert Trace(server, collector).ask({"input": 1}).ok  # which ours would have traced
        assert server.stop() == 0
        assert not collector.spans


def test_spans_of_user_code_hang_below_predict(trace: Trace) -> None:
    trace.ask({"span": 1})
    spans = trace.wait_for("mine", "predict")
    assert spans["mine"].parent == spans["predict"].id


def test_the_slow_lane_is_traced_like_the_fast_one() -> None:
    with traced("behind_fastapi") as (server, collector):
        one = Trace(server, collector)
        one.ask({"input": 1})
        assert ask(server, {"raise": 1}).status_code == 500
        poll_until(lambda: len(collector.named("POST /predict")) == 2)
        poll_until(lambda: len(collector.named("worker")) == 2)
    assert one.wait_for("POST /predict")["POST /predict"].parent == PARENT
    assert [span.failed for span in collector.named("POST /predict")].count(True) == 1


def test_what_is_queued_is_sent_when_the_server_drains() -> None:
    with traced("steps", OTEL_BSP_SCHEDULE_DELAY="600000") as (server, collector):
        for number in range(5):
            ask(server, {"input": number})
        assert not collector.spans
        assert server.stop() == 0
        assert len(collector.named("POST /predict")) == 5
        assert len(collector.named("predict")) == 5


def test_a_collector_that_hangs_stops_no_request_and_no_drain() -> None:
    with traced("steps", OTEL_BSP_MAX_QUEUE_SIZE="16", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8") as (
        server,
        collector,
    ):
        collector.hang.set()
        for number in range(40):
            assert ask(server, {"input": number}).ok
        poll_until(collector.asked.is_set)
        assert server.stop() == 0
        assert "spans not delivered: count=" in server.output()
    assert not collector.spans


def test_a_collector_that_is_down_stops_no_request_and_its_losses_are_counted() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    arguments = ["--otel", "--otel-traces-per-s", "all"]
    with serving(f"{SERVERS}:steps", arguments=arguments, environment=environment) as server:
        for number in range(20):
            assert ask(server, {"input": number}).ok
        assert server.stop() == 0
        assert "spans not delivered: count=40 of=40" in server.output()  # server and queue spans


def test_the_endpoint_can_be_given_by_the_option() -> None:
    with collecting() as collector:
        arguments = ["--otel-endpoint", collector.url]
        with serving(f"{SERVERS}:steps", arguments=arguments) as server:
            ask(server, {"input": 1})
            server.stop()
        assert collector.named("worker")


def test_without_the_option_opentelemetry_is_not_even_imported() -> None:
    with serving(f"{SERVERS}:steps") as server, attach(server.pid) as seen:
        ask(server, {"input": 1}, traceparent=f"00-{secrets.token_hex(16)}-{PARENT}-01")
        pids = [seen.roster.pid(0), seen.roster.pid(seen.roster.worker_cell(0))]
        for pid in pids:
            os.kill(pid, 0)
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "google/_upb" not in maps  # protobuf's extension, which the exporter needs
        assert server.stop(signal.SIGTERM) == 0
