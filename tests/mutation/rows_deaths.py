# SPDX-License-Identifier: Apache-2.0
"""Protections against deaths and standstills, to be taken out one at a time: see taken_out.py. In the order of docs/reliability.md."""

from __future__ import annotations

from tests.mutation.taken_out import Mutation

CHAOS = "tests/chaos/"
CHECKS = "src/cubbyhole/testing/channel_checks_"
POOL = "src/cubbyhole/supervise/pool.py"
LINGERING = "src/cubbyhole/supervise/lingering.py"
FRONT = "src/cubbyhole/front/main.py"
CLOCK = "src/cubbyhole/core/clock.py"
SEGMENT = "src/cubbyhole/_native/cbh_segment.c"
RECLAIM = "src/cubbyhole/_native/cbh_reclaim.c"
DICT = "src/cubbyhole/_native/cbh_dict.c"
STREAM = "src/cubbyhole/_native/cbh_stream.c"

OVER_SHM = ("-k", "shm")
OVER_SOCKETS = ("-k", "sockets")

RECLAIM_AT_DEATH = (
    "failed = self._channel.reclaim(place.role, place.index)  # before the log: clients wait"
)
ENTRIES = "src/cubbyhole/_native/_entries.pyx"
RECLAIM_BY_SUCCESSOR = (
    "            self.reclaim(place)\n        return self.segment.take_place(place)\n"
)
MONOTONIC = "from time import monotonic_ns as now_ns"
WALL = "from time import time_ns as now_ns"
SAME_START = (
    "return started == atomic_load_explicit(&((cbh_place *)p)->start_time, memory_order_relaxed);"
)
LOOK_BEFORE = """\
  int code = cbh_still_mine(dict, index, state);
  if (code < 0) return code;
  if (!cbh_place_mine(s)) return CBH_STALE;
  const cbh_result *result"""
LOOK_AT_THE_WORD = """\
  if (!cbh_tags(before, state)) return CBH_STALE;
  if (!atomic_compare_exchange_strong(&slot->result, &before, cbh_tagged(state, block))) return CBH_STALE;
"""
NO_LOOK_AT_THE_WORD = """\
  (void)before;
  CBH_SET(slot->result, cbh_tagged(state, block));
"""
LOOK_AFTER = "    if (now >> 16 != state >> 16 || (cbh_phase_of(now) != CBH_CLAIMED && cbh_phase_of(now) != CBH_STREAMING)) {\n"
NO_LOOK_AFTER = (
    (LOOK_AT_THE_WORD, NO_LOOK_AT_THE_WORD),
    (LOOK_AFTER, "    if (now >> 36 != state >> 36) {\n"),
)

ROWS: list[Mutation] = [
    Mutation(
        what="starting another worker after a death",
        file=POOL,
        old="        self._schedule(place, now, failed_entries=failed, pid=child.pid)\n",
        new="        del now\n",
        kept_by=f"{CHAOS}test_deaths.py::test_a_killed_workers_client_gets_503_and_the_next_request_is_served",
        words=OVER_SHM,
    ),
    Mutation(
        what="reclaiming what a dead worker had, at its death and by its successor",
        file=POOL,
        old=RECLAIM_AT_DEATH,
        new="failed = 0",
        kept_by=f"{CHAOS}test_deaths.py::test_a_killed_workers_client_gets_503_and_the_next_request_is_served",
        words=OVER_SHM,
        elsewhere=(
            (
                ENTRIES,
                RECLAIM_BY_SUCCESSOR,
                "            pass\n        return self.segment.take_place(place)\n",
            ),
        ),
    ),
    Mutation(
        what="reclaiming only what the dead one had",
        file=RECLAIM,
        old="if (cbh_place_of(state) != place || (!taken && cbh_epoch_of(state) == epoch)) return 0;",
        new="if (!taken && cbh_epoch_of(state) == epoch) return 0;",
        kept_by=f"{CHAOS}test_deaths.py::test_other_workers_do_not_notice_a_death",
        words=OVER_SHM,
    ),
    Mutation(
        what="reclaiming at a death; the next process at the place still reclaims, later",
        file=POOL,
        old=RECLAIM_AT_DEATH,
        new="failed = 0",
        kept_by=f"{CHAOS}test_faulty_code.py::test_native_code_that_crashes_costs_its_request_503_and_the_next_one_is_served",
        words=("-k", "abort"),
    ),
    Mutation(
        what="dropping what a dead process held in the arena",
        file=SEGMENT,
        old="  cbh_drop_everywhere(segment, place);\n",
        new="",
        kept_by=f"{CHAOS}test_mixed.py::test_kills_under_mixed_load_cost_no_one_else_his_answer",
        words=OVER_SHM,
    ),
    Mutation(
        what="running again only what asks for it",
        file=RECLAIM,
        old="bool again_wanted = cbh_flags_of(state) & CBH_RETRY && !",
        new="bool again_wanted = !",
        kept_by=f"{CHAOS}test_soak.py::test_under_a_kill_every_second_each_request_has_its_own_answer_and_nothing_is_left",
    ),
    Mutation(
        what="the start time beside the pid",
        file=SEGMENT,
        old=SAME_START,
        new="return true;",
        kept_by="tests/native/test_places.py::test_a_place_whose_pid_was_given_to_another_process_is_dead",
    ),
    Mutation(
        what="a clock that nobody sets",
        file=CLOCK,
        old=MONOTONIC,
        new=WALL,
        kept_by="tests/meta/test_clocks.py::test_no_deadline_follows_the_wall_clock",
    ),
    Mutation(
        what="counting how many workers died of a request",
        file=RECLAIM,
        old="!again_wanted || deaths >= CBH_MOST_DEATHS)",
        new="!again_wanted)",
        kept_by=f"{CHAOS}test_replacing.py::test_a_request_that_kills_every_worker_is_poison",
        words=OVER_SHM,
    ),
    Mutation(
        what="noting each death with what was held",
        file=POOL,
        old="        self._deaths.note(place, child.pid, held)\n",
        new="        del held\n",
        kept_by=f"{CHAOS}test_fronts.py::test_what_killed_worker_after_worker_is_kept_with_its_history",
    ),
    Mutation(
        what="the count of deaths, over sockets and pipes",
        file="src/cubbyhole/channels/desk.py",
        old="if again and held.attempt + 1 < POISON_AFTER:",
        new="if again:",
        kept_by=f"{CHECKS}death.py::an_entry_that_kills_worker_after_worker_is_poison",
    ),
    Mutation(
        what="the fence in the core",
        file=DICT,
        old=LOOK_BEFORE,
        new="  const cbh_result *result",
        kept_by=f"{CHECKS}fence.py::what_a_reclaimed_worker_publishes_is_refused",
        more=NO_LOOK_AFTER,
    ),
    Mutation(
        what="the fence in the core (a late owner's publish is not checked)",
        file=DICT,
        old=LOOK_BEFORE,
        new="  const cbh_result *result",
        kept_by=f"{CHAOS}test_late_owners.py::test_a_stopped_worker_that_wakes_after_another_took_over_is_refused",
        more=NO_LOOK_AFTER,
    ),
    Mutation(
        what="the look at the owner before a chunk is written",
        file=STREAM,
        old="  if (cbh_still_mine(dict, index, state) < 0 || !cbh_place_mine(s)) return CBH_STALE;\n",
        new="",
        kept_by=f"{CHAOS}test_late_owners.py::test_a_stopped_stream_that_wakes_after_its_end_adds_nothing",
    ),
    Mutation(
        what="the start time beside the pid",
        file=SEGMENT,
        old=SAME_START,
        new="return true;",
        kept_by=f"{CHAOS}test_late_owners.py::test_a_stranger_with_a_dead_workers_pid_is_not_taken_for_it",
    ),
    Mutation(
        what="a clock that nobody sets",
        file=CLOCK,
        old=MONOTONIC,
        new=WALL,
        kept_by=f"{CHAOS}test_late_owners.py::test_a_wall_clock_that_jumps_changes_no_answer_and_ends_no_worker",
    ),
    Mutation(
        what="the front's own look at deadlines",
        file="src/cubbyhole/front/exchange.py",
        old="            if waiter.deadline_ns <= time_ns:\n",
        new="            if waiter.deadline_ns <= 0:\n",
        kept_by=f"{CHAOS}test_deaths.py::test_a_predict_that_hangs_gets_504_and_its_worker_is_replaced",
        words=OVER_SHM,
    ),
    Mutation(
        what="ending whoever hangs",
        file=LINGERING,
        old="            for one in self._stalls.stalled(now_ns)\n",
        new="            for one in self._stalls.stalled(0)\n",
        kept_by=f"{CHAOS}test_deaths.py::test_a_predict_that_hangs_gets_504_and_its_worker_is_replaced",
        words=OVER_SHM,
    ),
    Mutation(
        what="ending whoever hangs by a signal that needs no help of his",
        file=POOL,
        old="verdict.details)\n                place.child.signal(signal.SIGKILL)",
        new="verdict.details)\n                place.child.signal(signal.SIGTERM)",
        kept_by=f"{CHAOS}test_times.py::test_a_stopped_worker_is_replaced_and_waking_it_changes_nothing",
    ),
    Mutation(
        what="the look at the fronts' beats",
        file=LINGERING,
        old="elif now_ns - before.since_ns >= self._patience_ns(before):",
        new="elif now_ns - before.since_ns >= START_UP_NS:",
        kept_by=f"{CHAOS}test_fronts.py::test_a_stopped_front_is_replaced_and_waking_it_changes_nothing",
    ),
    Mutation(
        what="starting the fronts' clocks anew after a pause of one's own",
        file=LINGERING,
        old="elif before.beat_ns != beat_ns or missed:",
        new="elif before.beat_ns != beat_ns:",
        kept_by="tests/unit/supervise/test_lingering.py::test_fronts_are_not_judged_by_a_supervisor_that_was_stopped",
    ),
    Mutation(
        what="starting another front after a death",
        file=POOL,
        old="        self._schedule(place, now, failed_entries=failed, pid=child.pid)\n",
        new='        if place.role == "worker":\n            self._schedule(place, now, failed_entries=failed, pid=child.pid)\n',
        kept_by=f"{CHAOS}test_deaths.py::test_a_killed_front_is_replaced",
        words=OVER_SHM,
    ),
    Mutation(
        what="freeing the entries of a dead front",
        file=RECLAIM,
        old="if (front == place) return reclaim_of_front(dict, index);",
        new="if (front == place) return 0;",
        kept_by=f"{CHAOS}test_open_streams.py::test_a_killed_fronts_streams_break_off_and_the_other_fronts_go_on",
        words=("-k", "async"),
    ),
    Mutation(
        what="trying again when a process cannot be started",
        file=POOL,
        old="        place.due_ns = died_ns + int(backoff_s * 1e9)\n",
        new="        place.due_ns = died_ns + int(backoff_s * 1e9) if pid else None\n",
        kept_by=f"{CHAOS}test_descriptors.py::test_a_supervisor_without_descriptors_starts_the_worker_when_it_has_some_again",
    ),
    Mutation(
        what="the life line of fronts",
        file=FRONT,
        old="    wait([lifeline])\n",
        new="    wait([])\n    threading.Event().wait()\n",
        kept_by=f"{CHAOS}test_deaths.py::test_children_of_a_killed_supervisor_end_and_leave_nothing",
        words=OVER_SHM,
    ),
    Mutation(
        what="what ends workers with their supervisor: the life line and the kernel's signal",
        file="src/cubbyhole/worker/main.py",
        old="        poller.poll()\n        os._exit(ORPHANED)\n",
        new="        poller.poll()\n",
        kept_by=f"{CHAOS}test_deaths.py::test_children_of_a_killed_supervisor_end_and_leave_nothing",
        words=OVER_SHM,
        elsewhere=(
            (
                "src/cubbyhole/supervise/process.py",
                "            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)\n",
                "            ctypes.CDLL(None)\n",
            ),
        ),
    ),
    Mutation(
        what="the 503 of a front whose supervisor is gone",
        file=FRONT,
        old="                self._loop.call_soon_threadsafe(self._arguments.server.desk.close)\n",
        new="                self._loop.call_soon_threadsafe(int)\n",
        kept_by=f"{CHAOS}test_ends.py::test_a_client_that_waits_when_the_supervisor_is_killed_gets_503",
        words=("-k", "fast"),
    ),
    Mutation(
        what="memory without a name",
        file="src/cubbyhole/core/roster.py",
        old="        return os.memfd_create(name, os.MFD_CLOEXEC)\n",
        new="        return tempfile.mkstemp(name)[0]\n",
        kept_by=f"{CHAOS}test_deaths.py::test_killing_everything_leaves_nothing",
    ),
]
