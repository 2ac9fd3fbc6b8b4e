# SPDX-License-Identifier: Apache-2.0
"""LitAPI under LitServe's names: options, checks, texts, defaults."""

from __future__ import annotations

import pickle
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import BaseModel

from cubbyhole.api.lit_api import LitAPI
from cubbyhole.worker.loops.base import LitLoop
from cubbyhole.worker.loops.batched import BatchedLoop
from cubbyhole.worker.loops.single import SingleLoop
from cubbyhole.worker.loops.streaming import BatchedStreamingLoop, StreamingLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Api(LitAPI):
    def predict(self, x: Any) -> Any:
        return x


class Spec:
    api_path: str | None = "/v1/spec"
    stream = True
    _max_batch_size = 0

    def __init__(self) -> None:
        self.seen: Any = None

    def pre_setup(self, lit_api: Any) -> None:
        self.seen = lit_api

    def decode_request(self, request: Any, **kwargs: Any) -> Any:
        return ("decoded", request, kwargs)

    def encode_response(self, output: Any, **kwargs: Any) -> Any:
        return ("encoded", output, kwargs)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be greater than 0"),
        ({"max_batch_size": -1}, "max_batch_size must be greater than 0"),
        ({"batch_timeout": -0.1}, "batch_timeout must be greater than or equal to 0"),
        (
            {"api_path": "predict"},
            (
                "api_path must start with '/'. Please provide a valid api path like '/predict', "
                "'/classify', or '/v1/predict'"
            ),
        ),
        ({"loop": "fast"}, "loop must be an instance of _BaseLoop or 'auto'"),
        (
            {"enable_async": True},
            (
                "Async validation failed:\n- predict must be an async generator or async function "
                "when enable_async=True"
            ),
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Api(**options)
    assert str(caught.value) == text


def test_options_are_positional_in_litserves_order() -> None:
    api = Api(4, 0.5, "/a", True, None, None, None, False)
    assert (api.max_batch_size, api.batch_timeout, api.api_path, api.stream) == (4, 0.5, "/a", True)


def test_a_constructor_that_does_not_call_ours_leaves_the_defaults() -> None:
    class Forgetful(Api):
        def __init__(self) -> None:
            self.mine = 1

    api = Forgetful()
    assert (api.max_batch_size, api.api_path, api.stream, api.device) == (
        1,
        "/predict",
        False,
        None,
    )
    assert isinstance(api.loop, SingleLoop)


@pytest.mark.parametrize(
    ("stream", "size", "kind"),
    [
        (False, 1, SingleLoop),
        (False, 2, BatchedLoop),
        (True, 1, StreamingLoop),
        (True, 2, BatchedStreamingLoop),
    ],
)
def test_auto_means_the_loop_that_suits(stream: bool, size: int, kind: type[LitLoop]) -> None:
    api = Api(max_batch_size=size, stream=stream)
    assert type(api.loop) is kind
    assert api.loop is api.loop


def test_a_loop_of_the_users_is_kept() -> None:
    loop = LitLoop()
    assert Api(loop=loop).loop is loop


def test_batch_and_unbatch_without_a_batch_size_are_suspect() -> None:
    class Both(Api):
        def batch(self, inputs: Any) -> Any:
            return inputs

        def unbatch(self, output: Any) -> Any:
            return output

    with pytest.warns(UserWarning, match="the max_batch_size parameter was not set"):
        Both()
    Both(max_batch_size=2)


def slow(lit_api: LitAPI) -> None:
    del lit_api
    time.sleep(0)


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let each look at the clock in `lit_api` be later by that."""

    def let_pass(step_s: float) -> None:
        now = iter(np.arange(1000.0) * step_s)
        monkeypatch.setattr("cubbyhole.api.lit_api.time.monotonic", lambda: float(next(now)))

    return let_pass


def test_a_slow_constructor_without_setup_is_warned_of(hours: Callable[[float], None]) -> None:
    class Slow(Api):
        def __init__(self) -> None:
            super().__init__()

    class SlowChild(Slow):
        def __init__(self) -> None:
            super().__init__()

    class WithSetup(Api):
        def __init__(self) -> None:
            super().__init__()

        def setup(self, device: Any) -> None: ...

    hours(1.5)
    with pytest.warns(RuntimeWarning, match=r"Slow.__init__ took 1.50 seconds to execute. This"):
        Slow()
    with pytest.warns(RuntimeWarning, match=r"SlowChild.__init__ took") as record:
        SlowChild()
    assert len(record) == 1
    WithSetup()
    hours(0.5)
    Slow()


def test_async_apis_may_have_synchronous_ends() -> None:
    class Async(LitAPI):
        def decode_request(self, request: Any) -> Any:
            return request

        async def predict(self, x: Any) -> Any:
            return x

    class AsyncGenerator(LitAPI):
        async def predict(self, x: Any) -> AsyncIterator[Any]:
            yield x

    with pytest.warns(UserWarning, match="decode_request should be an async function or async gen"):
        Async(enable_async=True)
    AsyncGenerator(enable_async=True, stream=True)


def test_a_spec_decides_on_stream_and_path() -> None:
    spec = Spec()
    api = Api(spec=spec, api_path="/mine")
    assert (api.stream, api.api_path) == (True, "/v1/spec")
    spec.api_path = None
    assert api.api_path == "/mine"
    api.max_batch_size = 3
    api.pre_setup()
    assert (spec.seen, spec._max_batch_size) == (api, 3)


def test_the_default_hooks_are_the_specs() -> None:
    api = Api(spec=Spec())
    assert api.decode_request(1, a=2) == ("decoded", 1, {"a": 2})
    assert api.encode_response(1) == ("encoded", 1, {})
    plain = Api()
    assert (plain.decode_request(1), plain.encode_response(2)) == (1, 2)


def test_batch_stacks_arrays_only() -> None:
    api = Api()
    stacked = api.batch([np.ones(2), np.zeros(2)])
    assert stacked.shape == (2, 2)
    assert api.batch([1, "a"]) == [1, "a"]


def test_unbatch_is_chosen_by_pre_setup() -> None:
    api = Api(max_batch_size=2)
    with pytest.raises(
        ValueError, match=r"Default implementation for `LitAPI\.unbatch` method was"
    ):
        api.unbatch([1])
    api.pre_setup()
    assert api.unbatch(np.arange(2)) == [0, 1]
    streaming = Api(max_batch_size=2, stream=True)
    streaming.pre_setup()
    assert list(streaming.unbatch(iter([(1, 2), (3, 4)]))) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("output", "words"), [("ab", "a string"), ({"a": 1}, "a dict"), ({1}, "a set")]
)
def test_unbatch_warns_of_what_is_no_list(output: Any, words: str) -> None:
    api = Api(max_batch_size=2)
    api.pre_setup()
    text = f"The 'predict' method returned {words} instead of a list of predictions."
    with pytest.warns(UserWarning, match=text):
        assert api.unbatch(output) == list(output)


def test_chunks_are_formatted_as_lines() -> None:
    class Model(BaseModel):
        x: int

    api = Api()
    values = [api.format_encoded_response(v) for v in ("a", b"b", {"k": 1}, Model(x=1))]
    assert values == ["a", b"b", '{"k": 1}\n', '{"x":1}\n']


def test_log_goes_to_the_queue_or_warns() -> None:
    class Queue(list[Any]):
        def put(self, pair: Any) -> None:
            self.append(pair)

    api, queue = Api(), Queue()
    with pytest.warns(
        UserWarning, match=r"Logging event \('k', 'v'\) attempted without a configured logger."
    ):
        assert api.log("k", "v") is None  # type: ignore[func-returns-value]
    api.set_logger_queue(queue)
    api.log("k", 1)
    assert queue == [("k", 1)]


def test_defaults_of_the_rest() -> None:
    api = Api()
    assert api.health() is True
    assert api.request_timeout is None
    with pytest.raises(NotImplementedError, match="predict is not implemented"):
        LitAPI().predict(1)
    with pytest.raises(NotImplementedError):
        api.has_active_requests()
    with pytest.raises(NotImplementedError):
        api.has_capacity()


def test_an_api_pickles_with_its_loop_resolved() -> None:
    api = Api(max_batch_size=4)
    assert isinstance(api.loop, BatchedLoop)
    copy = pickle.loads(pickle.dumps(api))  # noqa: S301
    assert (copy.max_batch_size, type(copy.loop)) == (4, BatchedLoop)


def test_nothing_is_warned_of_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Api()
        Api(max_batch_size=8, batch_timeout=0.1, stream=True)
