# SPDX-License-Identifier: Apache-2.0
"""Protections of order and of time limits, to be taken out one at a time, as docs/reliability.md has them: see taken_out.py."""

from __future__ import annotations

from tests.mutation.taken_out import Mutation

WISHES = "tests/unit/front/test_wishes.py::"
TURNSTILE = "tests/unit/front/test_turnstile.py::"
ORDER = "tests/integration/test_order.py::"
TIMES = "tests/chaos/test_times.py::"

ROWS: list[Mutation] = [
    Mutation(
        what="the rank is always the arrival",
        file="src/cubbyhole/front/lane.py",
        old=(
            "        if self._ordered:\n"
            "            rank = self._rank(scope, wishes, received_ns, deadline_ns)\n"
        ),
        new="",
        kept_by=WISHES + "test_with_priorities_the_most_urgent_is_claimed_first",
        words=("-k", "fast"),
    ),
    Mutation(
        what="nobody asks the operator",
        file="src/cubbyhole/front/wishes.py",
        old="        self.ordered = priorities or self._asks_api\n",
        new="        self.ordered = True\n",
        kept_by=WISHES + "test_without_the_operators_consent_nobody_jumps_the_queue",
        words=("-k", "fast"),
    ),
    Mutation(
        what="a class is worth an hour",
        file="src/cubbyhole/scheduling/policy.py",
        old="    return min(received_ns + priority * STEP_NS, deadline_ns)\n",
        new="    return min(received_ns + priority * 3600 * STEP_NS, deadline_ns)\n",
        kept_by="tests/unit/scheduling/test_policy.py::test_waiting_outweighs_any_class",
    ),
    Mutation(
        what="a rank knows no deadline",
        file="src/cubbyhole/scheduling/policy.py",
        old="    return min(received_ns + priority * STEP_NS, deadline_ns)\n",
        new="    return received_ns + priority * STEP_NS\n",
        kept_by=WISHES + "test_a_near_deadline_is_claimed_before_a_better_class",
    ),
    Mutation(
        what="the core claims by arrival",
        file="src/cubbyhole/_native/cbh_dict.c",
        old="  return x != y ? x < y : CBH_GET(dict->arrivals[a]) < CBH_GET(dict->arrivals[b]);\n",
        new="  (void)x, (void)y;\n  return CBH_GET(dict->arrivals[a]) < CBH_GET(dict->arrivals[b]);\n",
        kept_by=ORDER + "test_requests_run_by_class_deadline_and_arrival",
        words=("-k", "shm"),
    ),
    Mutation(
        what="the desk gives by arrival",
        file="src/cubbyhole/channels/desk.py",
        old="        heapq.heappush(heap, (held.entry.rank, held.sequence, held))\n",
        new="        heapq.heappush(heap, (0, held.sequence, held))\n",
        kept_by=ORDER + "test_requests_run_by_class_deadline_and_arrival",
        words=("-k", "sockets"),
    ),
    Mutation(
        what="the core takes the first that it finds",
        file="src/cubbyhole/_native/cbh_dict.c",
        old="        if (!before(dict, index, slots[max - 1])) continue;\n        count--;\n",
        new="        continue;\n",
        kept_by=ORDER + "test_batches_are_filled_in_rank_order",
    ),
    Mutation(
        what="neither front nor core keeps what expired from being run",
        file="src/cubbyhole/_native/cbh_dict.c",
        old="  if (CBH_GET(slot->deadline_ns) <= now) {\n",
        new="  if (0) {\n",
        elsewhere=(
            (
                "src/cubbyhole/front/exchange.py",
                "                self._cancel(waiter.id, self._expire_entry)\n",
                "",
            ),
        ),
        kept_by=ORDER + "test_what_expires_in_the_queue_is_answered_504_and_never_run",
    ),
    Mutation(
        what="the API is not asked",
        file="src/cubbyhole/front/wishes.py",
        old="        if self._asks_api:\n            return self._ask_api(headers)\n",
        new="",
        kept_by=WISHES
        + "test_an_api_orders_by_headers_of_its_own_and_a_failure_is_the_usual_class",
    ),
    Mutation(
        what="an API that fails to rank fails the request",
        file="src/cubbyhole/front/wishes.py",
        old="            )\n            return policy.DEFAULT_CLASS\n",
        new="            )\n            raise\n",
        kept_by=WISHES
        + "test_an_api_orders_by_headers_of_its_own_and_a_failure_is_the_usual_class",
    ),
    Mutation(
        what="shares are not asked for the rank",
        file="src/cubbyhole/front/turnstile.py",
        old="        if not self._desk.settings.fair_shares:\n",
        new="        if self._desk.settings.fair_shares:\n",
        kept_by=ORDER + "test_a_flood_of_one_key_does_not_delay_the_first_request_of_another",
    ),
    Mutation(
        what="a key has all its turns in one round",
        file="src/cubbyhole/scheduling/shares.py",
        old="        owner.next_round = number + 1\n",
        new="        owner.next_round = number\n",
        kept_by="tests/unit/scheduling/test_shares.py::test_everybody_is_served_and_no_key_gets_ahead_of_one_that_waits",
    ),
    Mutation(
        what="a turn knows no class",
        file="src/cubbyhole/scheduling/shares.py",
        old="opened[place] + priority * STEP_NS)",
        new="opened[place])",
        kept_by=TURNSTILE + "test_shares_are_fair_within_a_class",
    ),
    Mutation(
        what="a deadline counts in a turn",
        file="src/cubbyhole/front/turnstile.py",
        old="        return self._desk.turnstile.rank(scope[_TICKET], priority, received_ns)\n",
        new="        return min(self._desk.turnstile.rank(scope[_TICKET], priority, received_ns), deadline_ns)\n",
        kept_by=TURNSTILE + "test_short_deadlines_win_no_turn",
    ),
    # Time.
    Mutation(
        what="the client's time is granted, however long",
        file="src/cubbyhole/front/wishes.py",
        old="            return min(deadline_ns, deadline_after(policy.parse_timeout_s(value), received_ns))\n",
        new="            return deadline_after(policy.parse_timeout_s(value), received_ns)\n",
        kept_by=WISHES + "test_a_client_can_only_shorten_the_time",
    ),
    Mutation(
        what="nobody looks how long a request waits",
        file="src/cubbyhole/front/times.py",
        old="                found.append((entry.id, QUEUE_EXPIRED))\n",
        new="                continue\n",
        kept_by=TIMES + "test_who_waits_too_long_gets_504_and_who_runs_is_left_alone",
        words=("-k", "shm"),
    ),
    Mutation(
        what="running counts as waiting",
        file="src/cubbyhole/front/times.py",
        old="            if state == EntryState.READY.name and waiter.since_ns",
        new="            if waiter.since_ns",
        kept_by=TIMES + "test_who_waits_too_long_gets_504_and_who_runs_is_left_alone",
        words=("-k", "shm"),
    ),
    Mutation(
        what="nobody looks how long a request runs",
        file="src/cubbyhole/front/times.py",
        old="                found.append((entry.id, EXECUTION_EXPIRED))\n",
        new="                continue\n",
        kept_by=TIMES
        + "test_over_its_execution_time_a_request_gets_504_and_its_worker_is_replaced",
        words=("-k", "shm"),
    ),
    Mutation(
        what="who runs for too long is not ended",
        file="src/cubbyhole/supervise/health.py",
        old="        return 0 if last_beat_ns >= over_ns else now_ns - over_ns\n",
        new="        return 0\n",
        kept_by=TIMES
        + "test_over_its_execution_time_a_request_gets_504_and_its_worker_is_replaced",
        words=("-k", "shm"),
    ),
    Mutation(
        what="a batch has until its last deadline",
        file="src/cubbyhole/worker/batches.py",
        old="        return min(task.entry.deadline_ns for task, _ in self.places)\n",
        new="        return max(task.entry.deadline_ns for task, _ in self.places)\n",
        kept_by="tests/unit/worker/test_runner.py::test_user_code_sees_when_its_answer_is_too_late",
    ),
    Mutation(
        what="the other fronts are not told",
        file="src/cubbyhole/front/withdrawal.py",
        old="            desk.tell_other_fronts(name)\n",
        new="            pass\n",
        kept_by="tests/integration/test_withdrawal.py::test_a_request_is_taken_back_whichever_front_has_it",
    ),
]
