# SPDX-License-Identifier: Apache-2.0
"""Protections of servers that end, that are operated and that replace workers: see taken_out.py. In the order of docs/reliability.md."""

from __future__ import annotations

from tests.mutation.taken_out import Mutation

CHAOS = "tests/chaos/"
CHECKS = "src/cubbyhole/testing/channel_checks_"
INTEGRATION = "tests/integration/"
POOL = "src/cubbyhole/supervise/pool.py"
DRAIN = "src/cubbyhole/supervise/drain.py"
ADMIN = "src/cubbyhole/supervise/admin.py"
OPERATING = "src/cubbyhole/supervise/operating.py"
WORKER = "src/cubbyhole/worker/main.py"
DICT = "src/cubbyhole/_native/cbh_dict.c"
OPERATE = "src/cubbyhole/_native/cbh_operate.c"

OVER_SHM = ("-k", "shm")
FAST_LANE = ("-k", "fast")

ROWS: list[Mutation] = [
    Mutation(
        what="the patience of a drain",
        file=DRAIN,
        old='    end("front", timeout_s + FRONT_MARGIN_S)\n',
        new='    end("front", 0.0)\n',
        kept_by=f"{CHAOS}test_ends.py::test_sigterm_waits_for_all_that_run_and_all_that_are_queued",
    ),
    Mutation(
        what="workers that outlive the fronts",
        file=DRAIN,
        old='    end("front", timeout_s + FRONT_MARGIN_S)\n    end("worker", WORKER_EXIT_S)\n',
        new='    end("worker", WORKER_EXIT_S)\n    end("front", timeout_s + FRONT_MARGIN_S)\n',
        kept_by=f"{CHAOS}test_deaths.py::test_sigterm_under_load_answers_every_accepted_request",
    ),
    Mutation(
        what="the patience of a drain",
        file=DRAIN,
        old='    end("front", timeout_s + FRONT_MARGIN_S)\n',
        new='    end("front", 0.0)\n',
        kept_by=f"{CHAOS}test_deaths.py::test_under_a_stream_of_new_connections_a_drain_loses_none_that_was_accepted",
    ),
    Mutation(
        what="the 503 before uvicorn cancels what it cannot wait for",
        file="src/cubbyhole/front/main.py",
        old="        last_call = loop.call_later(patience_s, self._arguments.server.desk.close)\n",
        new="        last_call = loop.call_later(patience_s, int)\n",
        kept_by=f"{CHAOS}test_ends.py::test_a_request_that_outlasts_the_drain_gets_503_and_the_server_ends",
        words=FAST_LANE,
    ),
    Mutation(
        what="SIGKILL to workers that SIGTERM does not end",
        file=DRAIN,
        old="            if not killed and (hurried or left_s <= 0):\n",
        new="            if not killed and hurried:\n",
        kept_by=f"{CHAOS}test_ends.py::test_a_request_that_outlasts_the_drain_gets_503_and_the_server_ends",
        words=FAST_LANE,
    ),
    Mutation(
        what="the break of a stream that cannot be completed",
        file="src/cubbyhole/front/reply.py",
        old="        if failed or waiter.left:\n",
        new=(
            '        if failed:\n            await send({"type": "http.response.body", "body": b""})\n'
            "            return None\n        if waiter.left:\n"
        ),
        kept_by=f"{CHAOS}test_ends.py::test_a_stream_that_outlasts_the_drain_breaks_off",
    ),
    Mutation(
        what="giving the room of a body back with its entry",
        file=DICT,
        old="  if (body) cbh_drop(s, body, mine);\n",
        new="  (void)body;\n",
        kept_by=f"{CHAOS}test_mixed.py::test_a_full_arena_refuses_at_once_and_recovers",
    ),
    # Operators
    Mutation(
        what="telling the front of what an operator took back",
        file=OPERATE,
        old="    cbh_announce(dict, (uint32_t)index);  // the front answers;",
        new="    // the front answers;",
        kept_by=f"{INTEGRATION}test_operating.py::test_a_waiting_request_is_cancelled_and_a_running_one_sees_it",
    ),
    Mutation(
        what="telling the front of what an operator took back",
        file=OPERATE,
        old="    cbh_announce(dict, (uint32_t)index);  // the front answers;",
        new="    // the front answers;",
        kept_by=f"{CHECKS}operate.py::an_operator_takes_a_waiting_entry_back",
        words=("-k", "an_operator_takes_a_waiting_entry_back and shm"),
    ),
    Mutation(
        what="refusing what a channel cannot do",
        file="src/cubbyhole/channels/base.py",
        old='        raise self._not_offered(f"Entry {request_id} was not cancelled")\n',
        new="        return None\n",
        kept_by=f"{CHECKS}operate.py::an_operator_takes_a_waiting_entry_back",
    ),
    Mutation(
        what="a new rank for what waits only",
        file=OPERATE,
        old="  if (cbh_phase_of(state) != CBH_READY) return CBH_STALE;\n",
        new="",
        kept_by=f"{CHECKS}operate.py::an_operator_changes_the_order_in_flight",
    ),
    Mutation(
        what="taking an entry out of its queue while it gets a new rank",
        file=OPERATE,
        old="  if (!atomic_compare_exchange_strong(&slot->state, &state, held)) return CBH_STALE;\n",
        new="  (void)held;\n",
        kept_by="tests/native/test_rerank_in_c.py::test_a_new_rank_is_no_other_entrys_and_hides_none",
        more=(
            (
                "  if (!atomic_compare_exchange_strong(&slot->state, &held, state)) return CBH_NOT_FOUND;\n",
                "",
            ),
        ),
    ),
    Mutation(
        what="offering an entry again after it got a new rank",
        file=OPERATE,
        old="  cbh_offer(dict, (uint32_t)index);  // a worker that looked in between took the hint away\n",
        new="",
        kept_by="tests/native/test_rerank_in_c.py::test_a_new_rank_is_no_other_entrys_and_hides_none",
    ),
    Mutation(
        what="the look at who asks",
        file=ADMIN,
        old="            if uid != os.geteuid():\n",
        new="            if uid < 0:\n",
        kept_by="tests/unit/supervise/test_admin.py::test_another_user_is_not_heard",
    ),
    Mutation(
        what="not waiting for what an operator has to say",
        file=ADMIN,
        old="            sock.setblocking(False)\n",
        new="            sock.setblocking(True)\n",
        kept_by="tests/unit/supervise/test_admin.py::test_who_says_nothing_holds_up_nobody_and_is_dropped",
    ),
    Mutation(
        what="dropping who says nothing",
        file=ADMIN,
        old="                if until_ns > late_ns:\n",
        new="                if until_ns:\n",
        kept_by="tests/unit/supervise/test_admin.py::test_who_says_nothing_holds_up_nobody_and_is_dropped",
    ),
    Mutation(
        what="one drain, however often it is asked for",
        file=OPERATING,
        old='            return Done(ok=True, text="Draining already.", data={})\n',
        new='            self._signals.stop("operator")\n            return Done(ok=True, text="Draining already.", data={})\n',
        kept_by=f"{INTEGRATION}test_operating.py::test_draining_shows_its_progress_and_loses_nothing",
    ),
    Mutation(
        what="asking a worker to end, not ending it",
        file="src/cubbyhole/supervise/rolling.py",
        old="                place.child.signal(signal.SIGTERM)\n",
        new="                place.child.signal(signal.SIGKILL)\n",
        kept_by=f"{INTEGRATION}test_scaling.py::test_workers_are_replaced_in_turn_under_load_and_no_request_fails",
    ),
    # Number of workers
    Mutation(
        what="a worker more when one waits for too long",
        file="src/cubbyhole/scheduling/scaling.py",
        old="            return min(bounded + 1, self.most) if late and not seen.starting else bounded\n",
        new="            return bounded if late else min(bounded, self.most)\n",
        kept_by=f"{INTEGRATION}test_scaling.py::test_workers_come_with_the_load_and_go_without_it",
    ),
    Mutation(
        what="a worker less when one was idle for long",
        file="src/cubbyhole/scheduling/scaling.py",
        old="        return max(bounded - 1, self.least)\n",
        new="        return bounded\n",
        kept_by=f"{INTEGRATION}test_scaling.py::test_workers_come_with_the_load_and_go_without_it",
    ),
    Mutation(
        what="health that does not wait for workers which need not be there",
        file="src/cubbyhole/supervise/scaling.py",
        old="            self._roster.set_optional(place.cell, optional=spare)\n",
        new="            self._roster.set_optional(place.cell, optional=False)\n",
        kept_by=f"{INTEGRATION}test_scaling.py::test_workers_come_with_the_load_and_go_without_it",
    ),
    Mutation(
        what="an idle time that begins anew with each busy look",
        file="src/cubbyhole/scheduling/scaling.py",
        old="        if seen.oldest_wait_ns or seen.running >= bounded or seen.starting:\n            self._idle_since_ns = None\n",
        new="        if seen.oldest_wait_ns or seen.running >= bounded or seen.starting:\n",
        kept_by="tests/unit/scheduling/test_scaling_policy.py::test_a_load_at_the_edge_does_not_flap",
    ),
    Mutation(
        what="letting a worker that is one too many finish",
        file=POOL,
        old="            place.child.signal(signal.SIGTERM)\n        else:\n",
        new="            place.child.signal(signal.SIGKILL)\n        else:\n",
        kept_by=f"{INTEGRATION}test_scaling.py::test_an_operator_sets_the_number_under_load_and_no_request_fails",
    ),
    Mutation(
        what="letting a worker that is one too many finish",
        file=POOL,
        old="            place.child.signal(signal.SIGTERM)\n        else:\n",
        new="            place.child.signal(signal.SIGKILL)\n        else:\n",
        kept_by=f"{INTEGRATION}test_scaling.py::test_a_worker_that_is_one_too_many_finishes_its_batch",
    ),
    Mutation(
        what="doing without a further worker that cannot start",
        file=POOL,
        old="self._scaler is not None and self._scaler.gives_up(place, died_ns):",
        new="self._scaler is None:",
        kept_by=f"{INTEGRATION}test_scaling.py::test_a_further_worker_that_cannot_start_does_not_end_the_server",
    ),
    # Replacing workers
    Mutation(
        what="a worker's own way of taking SIGTERM: it finishes what it has",
        file=WORKER,
        old="    signal.signal(signal.SIGTERM, lambda _number, _frame: _begin_drain(place))\n",
        new="    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))\n",
        kept_by=f"{CHAOS}test_replacing.py::test_sighup_replaces_all_workers_and_fails_no_request",
        words=OVER_SHM,
    ),
    Mutation(
        what="running what was claimed before a worker ends for its age",
        file="src/cubbyhole/worker/loops/base.py",
        old="                self.stopping.set()\n        return entries\n",
        new="                raise SystemExit(0)\n        return entries\n",
        kept_by=f"{CHAOS}test_replacing.py::test_workers_are_recycled_after_so_many_requests",
    ),
    Mutation(
        what="the look at workers' memory",
        file="src/cubbyhole/supervise/rolling.py",
        old="            if size_bytes > above_bytes:\n",
        new="            if size_bytes > above_bytes << 20:\n",
        kept_by=f"{CHAOS}test_replacing.py::test_workers_are_recycled_when_they_have_grown",
    ),
    Mutation(
        what="giving up what cannot be started",
        file="src/cubbyhole/supervise/restarts.py",
        old="        if self._failed_starts > self.budget:\n            return None\n",
        new="",
        kept_by=f"{CHAOS}test_deaths.py::test_a_worker_that_cannot_start_again_ends_the_server",
    ),
]
