# SPDX-License-Identifier: Apache-2.0
"""A worker's loop in a thread, and its front in the test: what the tests of loops share."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from tests.conftest import poll_until

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


class Answer(msgspec.Struct):
    """What a client would see of one request."""

    outcome: Result | Failure
    chunks: list[bytes] = []
    head: tuple[int, bytes] | None = None

    @property
    def json(self) -> Any:
        assert isinstance(self.outcome, Result), self.outcome
        return msgspec.json.decode(self.outcome.body)

    @property
    def failure(self) -> Failure:
        assert isinstance(self.outcome, Failure), self.outcome
        return self.outcome


class Desk:
    """Use as a context: the loop runs inside."""

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

    def stop(self) -> None:
        self.place.stopping.set()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the loop does not stop"

    def submit(
        self,
        body: Any,
        meta: RequestMeta | None = None,
        deadline_ns: int = NEVER_NS,
    ) -> int:
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
                pending = Failure("pending")
                answer = self._answers[collected.id] = Answer(pending, [], taken.head)
            answer.chunks.extend(map(bytes, taken.chunks))
            if taken.end is not None:
                answer.outcome = taken.end

    def so_far(self, request_id: int) -> Answer | None:
        self.look()
        return self._answers.get(request_id)

    def answer(self, request_id: int) -> Answer:
        def final() -> Answer | None:
            found = self.so_far(request_id)
            if found is None or found.outcome == Failure("pending"):
                return None
            return found

        found = poll_until(final)
        assert found is not None
        return found

    def ask(self, body: Any, meta: RequestMeta | None = None) -> Answer:
        return self.answer(self.submit(body, meta))
