# SPDX-License-Identifier: Apache-2.0
"""A worker's loop in a thread, and its front in the test: for tests of LitAPIs and loops without any process.

    with LoopStage(MyAPI(max_batch_size=4)) as stage:
        assert stage.ask({"input": 2}).json == {"output": 4}

Flow:  test -> LoopStage.submit -> MemoryChannel -> the loop's thread -> MemoryChannel -> LoopStage.answer
Owns:  the channel, both its ports, the thread; all end with the `with`.
"""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.core.clock import NEVER_NS
from cubbyhole.core.entries import Failure, RequestEntry, RequestMeta, Result
from cubbyhole.core.errors import ChannelError
from cubbyhole.core.settings import EndpointSettings
from cubbyhole.testing.memory_channel import MemoryChannel
from cubbyhole.worker.loops.base import Workplace
from cubbyhole.worker.main import serve
from cubbyhole.worker.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from cubbyhole.api.callbacks import Callback
    from cubbyhole.api.lit_api import LitAPI


POLL_S = 0.002
PENDING = Failure("pending")


class Answer(msgspec.Struct):
    """What a client would see of one request: its outcome, and its chunks if it is a stream."""

    outcome: Result | Failure
    chunks: list[bytes] = []
    head: tuple[int, bytes] | None = None

    @property
    def json(self) -> Any:
        """The answer's body, parsed. Raises `AssertionError` if it failed."""
        if not isinstance(self.outcome, Result):
            raise AssertionError(f"the request failed: {self.outcome}")  # noqa: TRY004
        return msgspec.json.decode(self.outcome.body)

    @property
    def failure(self) -> Failure:
        """The failure. Raises `AssertionError` if there is none."""
        if not isinstance(self.outcome, Failure):
            raise AssertionError(f"the request did not fail: {self.outcome}")  # noqa: TRY004
        return self.outcome


class LoopStage:
    """Use as a context: the loop runs inside.

    Args:
        lit_api: Is set up here, in the test's process, for the device "cpu".
        callbacks, parse_form: As a worker gets them.
        credit_bytes: What a stream holds before its writer waits.
        arena_bytes: The largest body.
    """

    def __init__(
        self,
        lit_api: LitAPI,
        callbacks: list[Callback] | None = None,
        parse_form: Callable[[Any, str], Any] | None = None,
        credit_bytes: int = 1 << 16,
        arena_bytes: int = 1 << 24,
    ) -> None:
        lit_api.pre_setup()
        lit_api.setup("cpu")
        lit_api.device = "cpu"
        self.lit_api = lit_api
        self.channel = MemoryChannel(
            ChannelSettings(arena_bytes=arena_bytes), credit_bytes=credit_bytes
        )
        self.front = self.channel.front(0)
        self.beats = 0
        settings = EndpointSettings(
            stream=lit_api.stream,
            max_batch_size=lit_api.max_batch_size,
            batch_timeout_s=lit_api.batch_timeout,
            is_async=lit_api.enable_async,
        )
        runner = Runner(lit_api, callbacks, parse_form)
        port = self.channel.worker(0, 0)
        self.place = Workplace(port, runner, settings, self._beat, 0, callbacks, idle_wait_s=0.02)
        self._ids = count(1)
        self._thread = threading.Thread(target=self._serve)
        self._answers: dict[int, Answer] = {}
        self.errors: list[BaseException] = []

    def _beat(self) -> None:
        self.beats += 1

    def _serve(self) -> None:
        try:
            serve(self.lit_api.loop, self.place)
        except ChannelError as error:
            self.errors.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.front.close()
        self.place.port.close()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Tell the loop to stop and wait for it. Raises `AssertionError` if it goes on."""
        self.place.stopping.set()
        if not self.wait_for_end(timeout_s):
            raise AssertionError(f"the loop still runs {timeout_s} s after it was told to stop")

    def wait_for_end(self, timeout_s: float = 10.0) -> bool:
        """Whether the loop ends in that time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(
        self,
        body: Any,
        meta: RequestMeta | None = None,
        deadline_ns: int = NEVER_NS,
    ) -> int:
        """Send a request: bytes as they are, anything else as JSON. Returns its id."""
        request_id = next(self._ids)
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        encoded = b"" if meta is None else msgspec.msgpack.encode(meta)
        self.front.submit(RequestEntry(request_id, 0, raw, encoded, deadline_ns=deadline_ns))
        return request_id

    def look(self) -> None:
        """Collect what has come."""
        for collected in self.front.collect():
            if collected.outcome is not None:
                self._answers[collected.id] = Answer(collected.outcome)
                continue
            taken = self.front.take_chunks(collected.id)
            answer = self._answers.get(collected.id)
            if answer is None:
                answer = self._answers[collected.id] = Answer(PENDING, [], taken.head)
            answer.chunks.extend(map(bytes, taken.chunks))
            if taken.end is not None:
                answer.outcome = taken.end

    def so_far(self, request_id: int) -> Answer | None:
        """What has come of an answer."""
        self.look()
        return self._answers.get(request_id)

    def answer(self, request_id: int, timeout_s: float = 10.0) -> Answer:
        """Wait for a final answer. Raises `AssertionError` if none comes."""
        give_up_s = time.monotonic() + timeout_s
        while True:
            found = self.so_far(request_id)
            if found is not None and found.outcome is not PENDING:
                return found
            if time.monotonic() > give_up_s:
                raise AssertionError(f"no answer to request {request_id} in {timeout_s} s")
            time.sleep(POLL_S)

    def ask(self, body: Any, meta: RequestMeta | None = None) -> Answer:
        """Send a request and wait for its answer."""
        return self.answer(self.submit(body, meta))
