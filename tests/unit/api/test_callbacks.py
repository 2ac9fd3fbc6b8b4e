# SPDX-License-Identifier: Apache-2.0
"""Callbacks under LitServe's names; their failures go no further than the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.api.callbacks import (
    Callback,
    CallbackRunner,
    EventTypes,
    NoopCallback,
    PredictionTimeLogger,
    RequestTracker,
)

if TYPE_CHECKING:
    import pytest


class Recorder(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_before_predict(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(("before", args, kwargs))


class Broken(Callback):
    def on_before_predict(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken callback")


def test_every_event_is_a_hook() -> None:
    for event in EventTypes:
        assert callable(getattr(Callback(), event.value))
    assert len(EventTypes) == 12


def test_events_reach_callbacks_by_name_and_by_member() -> None:
    recorder = Recorder()
    runner = CallbackRunner([recorder, NoopCallback()])
    runner.trigger_event("on_before_predict", lit_api=1)
    runner.trigger_event(EventTypes.BEFORE_PREDICT, lit_api=2)
    runner.trigger_event("on_after_predict", lit_api=3)
    assert recorder.seen == [("before", (), {"lit_api": 1}), ("before", (), {"lit_api": 2})]


def test_a_broken_callback_is_logged_and_the_next_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    CallbackRunner([Broken(), recorder]).trigger_event("on_before_predict")
    assert len(recorder.seen) == 1
    assert "broken callback" in caplog.text


def test_only_hooks_that_do_something_are_called() -> None:
    runner = CallbackRunner(Recorder())
    assert len(runner.hooks("on_before_predict")) == 1
    assert runner.hooks("on_after_predict") == []


def test_ready_made_callbacks_print(capsys: pytest.CaptureFixture[str]) -> None:
    runner = CallbackRunner([PredictionTimeLogger(), RequestTracker()])
    runner.trigger_event("on_before_predict", lit_api=None)
    runner.trigger_event("on_after_predict", lit_api=None)
    runner.trigger_event("on_request", active_requests=3, litserver=None)
    out = capsys.readouterr().out
    assert "Prediction took 0.00 seconds" in out
    assert "Active requests: 3" in out
