# SPDX-License-Identifier: Apache-2.0
"""Protections against overload, of cancelling and of probes, to be taken out one at a time, as docs/reliability.md has them."""

from __future__ import annotations

from tests.mutation.taken_out import Mutation

OVERLOAD = "tests/unit/front/test_overload.py::"
TURNSTILE = "tests/unit/front/test_turnstile.py::"
ORDER = "tests/integration/test_order.py::"
CANCELLING = "tests/integration/test_cancelling.py::"
PROBES = "tests/unit/front/test_probes.py::"

ROWS: list[Mutation] = [
    Mutation(
        what="nobody counts what is under way",
        file="src/cubbyhole/front/exchange.py",
        old="        if len(self._waiters) >= self._limit:\n            raise self._refuse()\n",
        new="",
        more=(
            (
                "            del self._waiters[request_id]\n            raise self._refuse()\n",
                "            pass\n",
            ),
        ),
        kept_by=OVERLOAD + "test_over_max_queue_the_answer_is_503_at_once_and_later_there_is_room",
        words=("-k", "fast"),
    ),
    Mutation(
        what="a body is read before its request is refused",
        file="src/cubbyhole/front/exchange.py",
        old="        if len(self._waiters) >= self._limit:\n            raise self._refuse()\n",
        new="",
        kept_by=OVERLOAD + "test_over_max_queue_the_answer_is_503_at_once_and_later_there_is_room",
        words=("-k", "fast"),
    ),
    Mutation(
        what="Retry-After is always the same",
        file="src/cubbyhole/scheduling/admission.py",
        old="    return min(max(math.ceil(waiting / rate_per_s), SHORTEST_S), LONGEST_S)\n",
        new="    return SHORTEST_S\n",
        kept_by="tests/unit/scheduling/test_admission.py::test_it_is_when_what_waits_now_will_be_answered",
    ),
    Mutation(
        what="nobody looks at the rate",
        file="src/cubbyhole/front/exchange.py",
        old="        rate = self._rate.per_s(self._answered, now_ns())\n",
        new="        rate = 0.0\n",
        kept_by=OVERLOAD + "test_retry_after_grows_while_no_answer_comes",
    ),
    Mutation(
        what="nobody looks how long a body takes",
        file="src/cubbyhole/front/exchange.py",
        old="        self._readers.cut(time_ns)\n",
        new="",
        kept_by=OVERLOAD + "test_a_dripping_body_is_answered_408_and_the_connection_closed",
        words=("-k", "fast"),
    ),
    Mutation(
        what="the connection of a dripping body stays open",
        file="src/cubbyhole/scheduling/admission.py",
        old='        headers["connection"] = "close"  # the rest of the body is not wanted\n',
        new="        pass\n",
        kept_by=OVERLOAD + "test_a_dripping_body_is_answered_408_and_the_connection_closed",
        words=("-k", "fast"),
    ),
    Mutation(
        what="nobody looks how long a head takes",
        file="src/cubbyhole/front/main.py",
        old="            closed = self._slow_headers.look(connections, now_s)\n",
        new="            closed = 0\n",
        kept_by=OVERLOAD + "test_a_dripping_head_ends_the_connection",
    ),
    Mutation(
        what="nobody counts bytes",
        file="src/cubbyhole/front/turnstile.py",
        old="        if self._most_bytes is not None and others and self._bytes + size_bytes > self._most_bytes:\n",
        new="        if self._most_bytes is None and others:\n",
        kept_by=TURNSTILE + "test_over_max_queue_bytes_it_is_503_until_there_is_room",
        words=("-k", "length and fast"),
    ),
    Mutation(
        what="what comes in chunks is not counted",
        file="src/cubbyhole/front/turnstile.py",
        old='            self._desk.turnstile.add(ticket, len(message.get("body", b"")))\n',
        new="",
        kept_by=TURNSTILE + "test_over_max_queue_bytes_it_is_503_until_there_is_room",
        words=("-k", "chunked and fast"),
    ),
    Mutation(
        what="nobody counts by key",
        file="src/cubbyhole/front/turnstile.py",
        old="        if self._most_per_key is not None and count >= self._most_per_key:\n",
        new="        if self._most_per_key is None and count:\n",
        kept_by=TURNSTILE + "test_over_max_queue_per_key_it_is_429_and_others_are_served",
        words=("-k", "fast"),
    ),
    Mutation(
        what="all clients count as one",
        file="src/cubbyhole/front/turnstile.py",
        old="        if key is not None:\n            return key[:KEY_BYTES]\n",
        new="        del key\n",
        kept_by=TURNSTILE + "test_over_max_queue_per_key_it_is_429_and_others_are_served",
        words=("-k", "fast"),
    ),
    Mutation(
        what="a request that was refused stays counted",
        file="src/cubbyhole/front/turnstile.py",
        old="        if self._most_per_key is not None and count >= self._most_per_key:\n",
        new=(
            "        self._under_way[ticket.key] = count + 1\n"
            "        if self._most_per_key is not None and count >= self._most_per_key:\n"
        ),
        kept_by=TURNSTILE + "test_nothing_stays_counted_of_what_was_refused_broken_off_or_streamed",
    ),
    Mutation(
        what="a request that was broken off stays counted",
        file="src/cubbyhole/front/turnstile.py",
        old="        finally:\n            turnstile.leave(ticket)\n",
        new=(
            "        finally:\n"
            "            if ticket.waiter is None or not ticket.waiter.left:\n"
            "                turnstile.leave(ticket)\n"
        ),
        kept_by=TURNSTILE + "test_nothing_stays_counted_of_what_was_refused_broken_off_or_streamed",
    ),
    Mutation(
        what="bodies may fill the arena",
        file="src/cubbyhole/_native/cbh_dict.c",
        old="dict->segment->header->extent_count / CBH_RESULTS_PART;",
        new="0;",
        kept_by="tests/unit/channels/test_arena_reserve.py::test_bodies_leave_room_for_answers",
    ),
    Mutation(
        what="bodies may fill the arena",
        file="src/cubbyhole/_native/cbh_dict.c",
        old="dict->segment->header->extent_count / CBH_RESULTS_PART;",
        new="0;",
        kept_by=ORDER + "test_accepted_requests_are_answered_though_bodies_fill_the_arena",
    ),
    Mutation(
        what="nobody counts connections",
        file="src/cubbyhole/front/connections.py",
        old="        if len(self.connections) < limit:\n",
        new="        if limit > 0:\n",
        kept_by=OVERLOAD + "test_idle_connections_over_max_connections_are_answered_503_and_closed",
    ),
    Mutation(
        what="options of uvicorn's are not passed on",
        file="src/cubbyhole/front/main.py",
        old='**{**ours, **options, "interface"',
        new='**{**ours, "interface"',
        kept_by=OVERLOAD + "test_uvicorns_limit_of_connections_is_passed_on",
    ),
    Mutation(
        what="nobody looks who takes his answer",
        file="src/cubbyhole/front/main.py",
        old="            ended = self._slow_readers.look(connections, now_s)\n",
        new="            ended = 0\n",
        kept_by=OVERLOAD + "test_a_client_that_never_reads_is_cut_at_the_send_timeout",
        words=("-k", "whole-fast"),
    ),
    Mutation(
        what="a connection is closed when all was sent",
        file="src/cubbyhole/front/times.py",
        old="    transport.abort()\n",
        new="    transport.close()\n",
        kept_by=ORDER + "test_an_answer_that_nobody_reads_gives_its_room_back",
    ),
    Mutation(
        what="a slow reader is cut like one that does not read",
        file="src/cubbyhole/front/times.py",
        old="            if left_bytes > last_bytes or taken_bytes >= SLOWEST_BYTES_PER_S * self._limit_s:\n",
        new="            if left_bytes > last_bytes:\n",
        kept_by=OVERLOAD + "test_who_does_not_take_his_answer_is_cut_and_who_is_slow_is_not",
    ),
    Mutation(
        what="a writer waits for credit once",
        file="src/cubbyhole/worker/loops/base.py",
        old="            while not self.port.publish(entry, chunk, CREDIT_WAIT_S):\n",
        new="            if not self.port.publish(entry, chunk, CREDIT_WAIT_S):\n",
        kept_by="tests/unit/worker/test_streaming.py::test_a_slow_client_slows_its_generator",
        words=("-k", "[sync]"),
    ),
    Mutation(
        what="an asynchronous writer waits for no credit",
        file="src/cubbyhole/worker/loops/concurrent.py",
        old="            while not self._place.port.publish(entry, chunk):\n",
        new="            if not self._place.port.publish(entry, chunk):\n",
        more=(
            (
                "                await self.credit()\n        except",
                "                await asyncio.sleep(0)\n        except",
            ),
        ),
        kept_by="tests/unit/worker/test_streaming.py::test_a_slow_client_slows_its_generator",
        words=("-k", "[async]"),
    ),
    # Cancelling.
    Mutation(
        what="who left is forgotten, but his entry is not",
        file="src/cubbyhole/front/exchange.py",
        old="        waiter.left = True\n        self._cancel(waiter.id)\n",
        new="        waiter.left = True\n",
        kept_by=CANCELLING + "test_what_waits_goes_at_once_and_is_never_run",
    ),
    Mutation(
        what="synchronous code is told nothing",
        file="src/cubbyhole/worker/task.py",
        old="        return self.entry.cancelled\n",
        new="        return False\n",
        kept_by=CANCELLING + "test_each_kind_of_user_code_sees_that_its_client_left",
    ),
    Mutation(
        what="tasks are not cancelled",
        file="src/cubbyhole/worker/loops/concurrent.py",
        old="            self._place.beat()\n            self._look_after_tasks()\n",
        new="            self._place.beat()\n",
        kept_by=CANCELLING + "test_each_kind_of_user_code_sees_that_its_client_left",
    ),
    Mutation(
        what="generators are not closed",
        file="src/cubbyhole/worker/loops/base.py",
        old="        return not entry.cancelled\n",
        new="        return True\n",
        kept_by=CANCELLING + "test_each_kind_of_user_code_sees_that_its_client_left",
    ),
    Mutation(
        what="nobody looks who goes on with what is cancelled",
        file="src/cubbyhole/supervise/lingering.py",
        old="CancelledWatch(channel, limits.kill_cancelled_after_s)",
        new="CancelledWatch(channel, math.inf)",
        kept_by=CANCELLING + "test_who_goes_on_with_what_is_cancelled_is_ended_and_replaced",
    ),
    Mutation(
        what="nobody looks who else is in the batch",
        file="src/cubbyhole/supervise/lingering.py",
        old="            if entry.owner < 0 or entry.owner in busy or over_ns < 0:\n",
        new="            if entry.owner < 0 or over_ns < 0:\n",
        kept_by=CANCELLING + "test_a_batch_with_somebody_who_still_waits_is_not_ended",
    ),
    # Probes.
    Mutation(
        what="that all workers were ready is forgotten",
        file="src/cubbyhole/front/probes.py",
        old="    return desk.place.roster.was_complete()\n",
        new="    return desk.place.roster.workers_ready()\n",
        kept_by=PROBES + "test_startup_waits_for_all_workers_once_and_ready_follows_the_present",
    ),
    Mutation(
        what="the server is ready for ever once it was",
        file="src/cubbyhole/front/probes.py",
        old="    return len(served) == len(settings.endpoints)\n",
        new="    return len(served) == len(settings.endpoints) or roster.was_complete()\n",
        kept_by=PROBES + "test_startup_waits_for_all_workers_once_and_ready_follows_the_present",
    ),
    Mutation(
        what="a drain is not looked at",
        file="src/cubbyhole/front/probes.py",
        old=(
            "    if roster.state(place.index) == draining or roster.state(roster.supervisor) == draining:\n"
            "        return False\n"
        ),
        new="    del draining\n",
        kept_by=PROBES + "test_a_server_that_drains_is_alive_but_not_ready",
    ),
    Mutation(
        what="a front does not ask for its supervisor",
        file="src/cubbyhole/front/probes.py",
        old="    return pid in {0, os.getppid(), os.getpid()}\n",
        new="    return pid >= 0\n",
        kept_by=PROBES + "test_a_front_without_its_supervisor_is_not_alive",
    ),
    Mutation(
        what="probes are guarded like the rest",
        file="src/cubbyhole/front/assembly.py",
        old="    add_probes(app, desk)\n",
        new=(
            "    from fastapi import Depends\n\n"
            "    app.router.dependencies.append(Depends(guard(None)))\n"
            "    add_probes(app, desk)\n"
            "    app.router.dependencies.clear()\n"
        ),
        kept_by=PROBES + "test_probes_ask_for_no_key_where_health_does",
        words=("-k", "fast"),
    ),
    Mutation(
        what="a full queue is never looked at",
        file="src/cubbyhole/front/probes.py",
        old="    most = desk.queue_share if settings.unready_when_full else None\n",
        new="    most = None\n",
        kept_by=PROBES + "test_a_full_queue_is_not_ready_only_where_the_operator_says_so",
    ),
    Mutation(
        what="nobody asks the operator whether a full queue counts",
        file="src/cubbyhole/front/probes.py",
        old="    most = desk.queue_share if settings.unready_when_full else None\n",
        new="    most = desk.queue_share\n",
        kept_by=PROBES + "test_a_full_queue_is_not_ready_only_where_the_operator_says_so",
    ),
]
