# SPDX-License-Identifier: Apache-2.0
"""Section 19: which loop an API gets, loops that users write, continuous batching."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
from parity_apis import Square
from parity_loops import AsyncLoop, Counter, Half, NoWorkerIdLoop, RunLoop

import cubbyhole as ls
from cubbyhole.loops import (
    BatchedLoop,
    BatchedStreamingLoop,
    ContinuousBatchingLoop,
    Output,
    SingleLoop,
    StreamingLoop,
    get_default_loop,
)
from cubbyhole.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from cubbyhole.testing.serving import Served

    Serve = Callable[[Callable[[], ls.LitServer]], Served]


def custom() -> ls.LitServer:
    return ls.LitServer(Half(loop=RunLoop()), timeout=10)


def short_tuples() -> ls.LitServer:
    return ls.LitServer(Half(loop=NoWorkerIdLoop()))


def continuous() -> ls.LitServer:
    return ls.LitServer(Counter(stream=True, loop=ContinuousBatchingLoop()))


@pytest.mark.parametrize(
    ("stream", "max_batch_size", "enable_async", "kind"),
    [
        (False, 1, False, SingleLoop),
        (False, 2, False, BatchedLoop),
        (True, 1, False, StreamingLoop),
        (True, 2, False, BatchedStreamingLoop),
        (False, 1, True, SingleLoop),
        (True, 1, True, StreamingLoop),
    ],
)
def test_the_default_loop_follows_from_the_options(
    stream: bool, max_batch_size: int, enable_async: bool, kind: type
) -> None:
    assert type(get_default_loop(stream, max_batch_size, enable_async)) is kind


def test_auto_is_resolved_when_it_is_read() -> None:
    assert isinstance(Square(loop="auto").loop, SingleLoop)
    assert isinstance(Square(loop=None, max_batch_size=2).loop, BatchedLoop)
    own = RunLoop()
    assert Square(loop=own).loop is own


def test_a_users_loop_takes_and_answers_requests(serve: Serve) -> None:
    url = f"{serve(custom).url}/predict"
    for number in range(3):
        answer = requests.post(url, json={"input": number}, timeout=10).json()
        assert answer == {"by": "RunLoop", "device": "cpu", "y": number / 2}


def test_an_error_of_a_users_loop_is_answered_and_it_goes_on(serve: Serve) -> None:
    url = f"{serve(custom).url}/predict"
    assert requests.post(url, json={"input": "raise"}, timeout=10).status_code == 500
    assert requests.post(url, json={"input": 2}, timeout=10).json()["y"] == 1


def test_a_tuple_without_a_worker_id_is_an_answer(serve: Serve) -> None:
    """Defect 4: it ended the response task, and every later request hung."""
    url = f"{serve(short_tuples).url}/predict"
    for number in range(3):
        assert requests.post(url, json={"input": number}, timeout=10).json() == number / 2


def test_a_users_loop_may_be_a_coroutine_and_stream() -> None:
    api = Half(loop=AsyncLoop(), stream=True)
    with serving(ls.LitServer(api)) as served:
        text = requests.post(f"{served.url}/predict", json={"count": 3}, timeout=10).text
    assert text == "0\n1\n2\n"


def test_continuous_batching_lets_requests_join_a_running_batch(serve: Serve) -> None:
    url = f"{serve(continuous).url}/predict"

    def post(count: int) -> list[list[str]]:
        text = requests.post(url, json={"count": count}, timeout=10).text
        return [word.split("/") for word in text.split()]

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(post, [30, 20, 10]))
    for words, count in zip(answers, [30, 20, 10], strict=True):
        assert [int(left) for left, _ in words] == list(range(count - 1, -1, -1))
    assert max(int(together) for words in answers for _, together in words) > 1


def test_a_request_that_cannot_be_added_fails_alone(serve: Serve) -> None:
    """Defect 40: it ended the prefill task, and later requests hung."""
    url = f"{serve(continuous).url}/predict"
    assert requests.post(url, json={"count": 13}, timeout=10).status_code == 500
    assert requests.post(url, json={"count": 2}, timeout=10).status_code == 200


def test_continuous_batching_demands_what_it_needs() -> None:
    text = "Continuous batching loop requires streaming to be enabled. Please set LitServe"
    with pytest.raises(ValueError, match=text):
        ls.LitServer(Counter(loop=ContinuousBatchingLoop()))
    loop = ContinuousBatchingLoop(
        max_sequence_length=10, no_pending_requests=False, sleep_delay=0.01
    )
    assert loop.max_sequence_length == 10


def test_an_output_has_litserves_fields() -> None:
    output: Any = Output("uid", "text", "OK")
    assert (output.uid, output.output, output.status) == ("uid", "text", "OK")
