# SPDX-License-Identifier: Apache-2.0
"""Section 13: callbacks and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Batched, Chat, Raises, Square, Stream, WritesEvents

import cubbyhole as ls
from cubbyhole.callbacks import Callback, CallbackRunner, EventTypes
from cubbyhole.callbacks.defaults import PredictionTimeLogger
from cubbyhole.callbacks.defaults.metric_callback import RequestTracker
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = [
    "before_decode Square",
    "after_decode Square",
    "before_predict Square",
    "after_predict Square",
    "before_encode Square",
    "after_encode Square",
]


def events_of(path: Path, api: ls.LitAPI, body: Any, url: str = "/predict", **options: Any) -> Any:
    server = ls.LitServer(api, callbacks=[Raises(), WritesEvents(path)], **options)
    with serving(server) as served:
        answer = requests.post(served.url + url, json=body, timeout=10)
        assert answer.status_code == 200
    return path.read_text().splitlines()


def test_every_event_is_heard_in_order_around_one_request(tmp_path: Path) -> None:
    """`Raises` stands before it: what a callback raises goes no further."""
    events = events_of(tmp_path / "events", Square(), {"input": 2}, track_requests=True)
    assert events == [
        "server_start LitServer",
        "before_setup Square",
        "after_setup Square",
        "request:1 LitServer",
        *HOOKS,
        "response LitServer",
        "server_end LitServer",
    ]


def test_a_batch_is_one_round_of_events(tmp_path: Path) -> None:
    events = events_of(tmp_path / "events", Batched(max_batch_size=2), {"input": 2})
    in_worker = [event for event in events if event.endswith(" Batched") and "setup" not in event]
    assert in_worker == [hook.replace("Square", "Batched") for hook in HOOKS]


def test_a_stream_fires_each_event_once_and_around_the_work(tmp_path: Path) -> None:
    """Defect 37: decode hooks were skipped, and after_predict fired twice."""
    events = events_of(tmp_path / "events", Stream(stream=True), {"count": 3})
    names = [event.split()[0] for event in events if event.endswith(" Stream")]
    assert sorted(names[2:]) == sorted(hook.split()[0] for hook in HOOKS)
    assert events[-2:] == ["response LitServer", "server_end LitServer"]


def test_on_response_fires_for_specs_too(tmp_path: Path) -> None:
    """Defect 17."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    events = events_of(
        tmp_path / "events", Chat(spec=ls.OpenAISpec()), body, url="/v1/chat/completions"
    )
    assert "response LitServer" in events


def test_a_wrong_callback_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid callback type"):
        ls.LitServer(Square(), callbacks=[object()])  # type: ignore[list-item]


def test_the_ready_made_ones_print_litserves_lines(capfd: pytest.CaptureFixture[str]) -> None:
    callbacks = [PredictionTimeLogger(), RequestTracker()]
    server = ls.LitServer(Square(), callbacks=callbacks, track_requests=True)
    with serving(server) as served:
        requests.post(f"{served.url}/predict", json={"input": 2}, timeout=10)
    out = capfd.readouterr().out
    assert "Prediction took 0.00 seconds" in out
    assert "Active requests: 1" in out


def test_events_have_litserves_names() -> None:
    assert {event.name: event.value for event in EventTypes} == {
        "BEFORE_SETUP": "on_before_setup",
        "AFTER_SETUP": "on_after_setup",
        "BEFORE_DECODE_REQUEST": "on_before_decode_request",
        "AFTER_DECODE_REQUEST": "on_after_decode_request",
        "BEFORE_PREDICT": "on_before_predict",
        "AFTER_PREDICT": "on_after_predict",
        "BEFORE_ENCODE_RESPONSE": "on_before_encode_response",
        "AFTER_ENCODE_RESPONSE": "on_after_encode_response",
        "ON_SERVER_START": "on_server_start",
        "ON_SERVER_END": "on_server_end",
        "ON_REQUEST": "on_request",
        "ON_RESPONSE": "on_response",
    }


@pytest.mark.parametrize("event", ["on_request", EventTypes.ON_REQUEST])
def test_a_runner_calls_all_callbacks(event: Any) -> None:
    heard: list[Any] = []

    class Hears(Callback):
        def on_request(self, *args: Any, **kwargs: Any) -> None:
            heard.append(kwargs)

    CallbackRunner([Hears(), Hears()]).trigger_event(event, active_requests=1, litserver=None)
    CallbackRunner().trigger_event(event)
    assert heard == [{"active_requests": 1, "litserver": None}] * 2
