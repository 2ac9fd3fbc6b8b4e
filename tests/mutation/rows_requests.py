# SPDX-License-Identifier: Apache-2.0
"""Protections of requests, to be taken out one at a time: see taken_out.py.

In the order of docs/reliability.md, "When things go wrong", down to clients that vanish; order, overload and the rest have their own lists.
"""

from __future__ import annotations

from tests.mutation.taken_out import Mutation

READING = "tests/unit/worker/test_reading.py::"
FAULTY = "tests/chaos/test_faulty_code.py::"
SCHEMAS = "tests/chaos/test_schemas.py::"
FUZZ = "tests/fuzz/test_fuzz.py::"
VANISHING = "tests/chaos/test_vanishing.py::"

ROWS: list[Mutation] = [
    Mutation(
        what="where a body stops to be JSON is not told",
        file="src/cubbyhole/worker/reading.py",
        old='f"Request body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."',
        new='"Request body is not JSON."',
        kept_by=READING + "test_what_is_no_json_is_refused_with_where_and_why",
    ),
    Mutation(
        what="a number of too many digits is not caught",
        file="src/cubbyhole/worker/reading.py",
        old="    except ValueError as error:  # Python reads no",
        new="    except NotImplementedError as error:  # Python reads no",
        kept_by=READING + "test_what_is_no_json_is_refused_with_where_and_why",
    ),
    Mutation(
        what="violations do not begin at the body",
        file="src/cubbyhole/worker/reading.py",
        old='        item["loc"] = ["body", *item["loc"]]\n',
        new="",
        kept_by=READING + "test_violations_are_the_same_as_a_running_fastapi_gives",
    ),
    Mutation(
        what="integers of more than 64 bits stay in a failure",
        file="src/cubbyhole/worker/failures.py",
        old="    if isinstance(value, int) and not -(2**63) <= value < 2**64:\n        return str(value)\n",
        new="",
        kept_by=FAULTY + "test_a_number_without_end_is_a_violation_and_costs_no_worker",
    ),
    Mutation(
        what="what pydantic refuses is no answer",
        file="src/cubbyhole/worker/reading.py",
        old="        except pydantic.ValidationError as error:\n",
        new="        except NotImplementedError as error:\n",
        kept_by=SCHEMAS + "test_no_made_up_request_costs_a_5xx_or_a_worker",
        words=("-k", "typed"),
    ),
    Mutation(
        what="integers without end are read",
        file="src/cubbyhole/worker/reading.py",
        old="    except ValueError as error:  # Python reads no",
        new="    except NotImplementedError as error:  # Python reads no",
        kept_by=SCHEMAS + "test_no_broken_body_costs_a_5xx_or_a_worker",
        words=("-k", "plain"),
    ),
    Mutation(
        what="a chunked body is not counted",
        file="src/cubbyhole/front/intake.py",
        old="    body = _GrowingBody(limit_bytes, reserve)\n",
        new="    body = _GrowingBody(1 << 40, reserve)\n",
        kept_by="tests/unit/front/test_lanes.py::test_an_endless_body_is_answered_413_and_cut_off",
        words=("-k", "fast"),
    ),
    Mutation(
        what="the rest of a body that is too large is read to its end",
        file="src/cubbyhole/front/reply.py",
        old="LINGER_BYTES = 16 << 20",
        new="LINGER_BYTES = 16 << 40",
        more=(("LINGER_S = 2.0", "LINGER_S = 3600.0"),),
        kept_by="tests/unit/front/test_lanes.py::test_an_endless_body_is_answered_413_and_cut_off",
        words=("-k", "fast"),
    ),
    Mutation(
        what="what is read to be dropped is refused once more, and the connection cut off",
        file="src/cubbyhole/front/limits.py",
        old="bound_bytes = total + 2 * LINGER_BYTES",
        new="bound_bytes = limit_bytes",
        kept_by="tests/unit/front/test_lanes.py::test_who_reads_nothing_before_all_is_sent_finds_the_413",
        words=("-k", "slow"),
    ),
    Mutation(
        what="a chunked body is not counted",
        file="src/cubbyhole/front/intake.py",
        old="    body = _GrowingBody(limit_bytes, reserve)\n",
        new="    body = _GrowingBody(1 << 40, reserve)\n",
        kept_by=FAULTY + "test_a_body_over_the_limit_is_answered_413_before_it_is_sent",
        words=("-k", "chunked"),
    ),
    Mutation(
        what="the length that is declared is not looked at",
        file="src/cubbyhole/front/intake.py",
        old=(
            "    size_bytes = int(value)\n"
            "    if size_bytes > limit_bytes:\n"
            "        raise BodyTooLarge(size_bytes, limit_bytes, unread=True)\n"
        ),
        new="    size_bytes = int(value)\n",
        kept_by=FAULTY + "test_a_body_over_the_limit_is_answered_413_before_it_is_sent",
        words=("-k", "declared"),
    ),
    Mutation(
        what="a failure is logged without its traceback",
        file="src/cubbyhole/worker/runner.py",
        old="                exc_info=error,\n",
        new="",
        kept_by="tests/unit/worker/test_runner.py::test_a_failure_is_logged_once_with_its_traceback",
    ),
    Mutation(
        what="the client is told what an exception says",
        file="src/cubbyhole/worker/failures.py",
        old='code, detail = "predict_failed", "Internal server error"',
        new='code, detail = "predict_failed", message',
        kept_by=FAULTY
        + "test_a_hook_that_raises_costs_its_request_500_and_the_traceback_stays_inside",
    ),
    Mutation(
        what="what a hook raises ends its worker",
        file="src/cubbyhole/worker/runner.py",
        old="                return contain(error)\n",
        new="                raise\n",
        kept_by=FAULTY
        + "test_a_hook_that_raises_costs_its_request_500_and_the_traceback_stays_inside",
    ),
    Mutation(
        what="failures are not made sendable",
        file="src/cubbyhole/worker/failures.py",
        old="    return _sendable(_record_of(error))\n",
        new="    return _record_of(error)\n",
        kept_by=FAULTY + "test_what_a_client_sends_into_an_error_costs_no_worker",
        words=("-k", "shm"),
    ),
    Mutation(
        what="no memory is not contained",
        file="src/cubbyhole/worker/runner.py",
        old=(
            "            except Exception as error:  # noqa: BLE001  (logged by contain)\n"
            "                return contain(error)\n"
        ),
        new=(
            "            except MemoryError:\n"
            "                raise\n"
            "            except Exception as error:\n"
            "                return contain(error)\n"
        ),
        kept_by=FAULTY
        + "test_a_request_for_which_there_is_no_memory_is_answered_500_and_its_worker_goes_on",
    ),
    Mutation(
        what="a failed batch is not run item by item",
        file="src/cubbyhole/worker/batches.py",
        old="        if isinstance(raised.error, BatchSizeMismatch) or len(self.places) == 1:\n",
        new="        if isinstance(raised.error, Exception):\n",
        kept_by="tests/unit/worker/test_batched.py::test_one_that_crashes_the_batch_fails_alone_and_the_rest_runs_again",
    ),
    Mutation(
        what="a failed batch is not run item by item",
        file="src/cubbyhole/worker/batches.py",
        old="        if isinstance(raised.error, BatchSizeMismatch) or len(self.places) == 1:\n",
        new="        if isinstance(raised.error, Exception):\n",
        kept_by="tests/contract/test_batch_faults.py::test_one_bad_item_of_a_batch_fails_alone",
    ),
    Mutation(
        what="one that cannot be decoded keeps its batch from running",
        file="src/cubbyhole/worker/batches.py",
        old="        going = [task for task in self.tasks if task.failure is None]\n",
        new="        going = [] if any(task.failure for task in self.tasks) else self.tasks\n",
        kept_by="tests/contract/test_batch_faults.py::test_one_bad_item_of_a_batch_fails_alone",
        words=("-k", "decode"),
    ),
    Mutation(
        what="a failed batch is not run item by item",
        file="src/cubbyhole/worker/batches.py",
        old="        if isinstance(raised.error, BatchSizeMismatch) or len(self.places) == 1:\n",
        new="        if isinstance(raised.error, Exception):\n",
        kept_by=FAULTY + "test_one_bad_item_of_a_batch_fails_alone",
        words=("-k", "predict"),
    ),
    Mutation(
        what="a stream that failed ends in order",
        file="src/cubbyhole/front/reply.py",
        old='            raise StreamBroken(f"The stream ended by {code} after it had begun.")\n',
        new='            await send({"type": "http.response.body", "body": b""})\n            return None\n',
        kept_by="tests/unit/front/test_lanes.py::test_a_stream_that_fails_later_does_not_end_as_if_it_were_whole",
    ),
    Mutation(
        what="a stream that failed ends in order",
        file="src/cubbyhole/front/reply.py",
        old='            raise StreamBroken(f"The stream ended by {code} after it had begun.")\n',
        new='            await send({"type": "http.response.body", "body": b""})\n            return None\n',
        kept_by=FAULTY + "test_a_generator_that_raises_in_mid_stream_ends_the_answer_as_broken",
    ),
    Mutation(
        what="nobody cancels for a client that left",
        file="src/cubbyhole/front/exchange.py",
        old="            return\n        self.leave(waiter)\n",
        new="            return\n",
        kept_by="tests/unit/front/test_exchange.py::test_a_client_that_leaves_cancels_its_entry",
    ),
    Mutation(
        what="a writer does not look whether anybody is there",
        file="src/cubbyhole/worker/loops/base.py",
        old="                if entry.cancelled:\n                    return False\n",
        new="",
        more=(("        return not entry.cancelled\n", "        return True\n"),),
        kept_by="tests/unit/worker/test_streaming.py::test_the_generator_of_a_client_that_left_is_closed",
        words=("-k", "[sync]"),
    ),
    Mutation(
        what="a batch of streams does not look whether anybody is there",
        file="src/cubbyhole/worker/shared_streams.py",
        old="            if task.entry.cancelled:\n                self._end(stream, CANCELLED)\n            elif isinstance",
        new="            if isinstance",
        more=(
            (
                "            if stream.task.entry.cancelled:\n                self._end(stream, CANCELLED)\n            elif not",
                "            if not",
            ),
        ),
        kept_by="tests/unit/worker/test_streaming.py::test_the_generator_of_a_client_that_left_is_closed",
        words=("-k", "[batch]"),
    ),
    Mutation(
        what="neither an asynchronous writer nor its loop looks whether anybody is there",
        file="src/cubbyhole/worker/loops/concurrent.py",
        old="                if entry.cancelled:\n                    return False\n",
        new="",
        more=(
            ("        return not entry.cancelled\n", "        return True\n"),
            ("                task.cancel()\n", "                continue\n"),
        ),
        kept_by="tests/unit/worker/test_streaming.py::test_the_generator_of_a_client_that_left_is_closed",
        words=("-k", "[async]"),
    ),
    Mutation(
        what="a reservation that is let go keeps its block",
        file="src/cubbyhole/_native/_segment.pyx",
        old=(
            "        return block\n\n"
            "    def __dealloc__(self):\n"
            "        if self.segment is not None and self.block:\n"
            "            self.segment.end_hold(self.block)\n"
        ),
        new="        return block\n",
        kept_by="tests/chaos/test_mixed.py::test_clients_may_vanish_anywhere_in_a_request_or_its_answer",
        words=("-k", "closed"),
    ),
    Mutation(
        what="a client that leaves in mid-request is an error",
        file="src/cubbyhole/front/lane.py",
        old="        except (ClientLeft, CubbyholeError) as error:\n",
        new="        except CubbyholeError as error:\n",
        kept_by=VANISHING + "test_a_client_may_vanish_after_each_byte_of_its_request",
        words=("-k", "closed"),
    ),
    Mutation(
        what="nobody cancels for a client that left",
        file="src/cubbyhole/front/exchange.py",
        old="            return\n        self.leave(waiter)\n",
        new="            return\n",
        kept_by=VANISHING + "test_a_client_may_vanish_after_each_byte_of_a_streamed_answer",
        words=("-k", "streams-closed or closed-streams"),
    ),
    Mutation(
        what="offsets of the header are used where they lie",
        file="src/cubbyhole/_native/cbh_segment.c",
        old="segment->header = &segment->checked;",
        new="segment->header = h;",
        kept_by="tests/native/test_corruption.py::test_words_written_over_crash_hang_and_point_outside_nowhere",
    ),
    Mutation(
        what="a result's length is not compared with its block",
        file="src/cubbyhole/_native/cbh_dict.c",
        old="  if (result->body_bytes > capacity - result->body_from) return false;\n",
        new="",
        kept_by="tests/native/test_corruption.py::test_words_written_over_crash_hang_and_point_outside_nowhere",
    ),
    Mutation(
        what="a body that is no text is another error",
        file="src/cubbyhole/worker/reading.py",
        old="    except UnicodeDecodeError as error:\n",
        new="    except NotImplementedError as error:\n",
        more=(
            (
                "    except ValueError as error:  # Python reads no",
                "    except NotImplementedError as error:  # Python reads no",
            ),
        ),
        kept_by=FUZZ + "test_hostile_bytes_are_refused_in_the_ways_that_callers_know",
        words=("-k", "body"),
    ),
    Mutation(
        what="the size of a frame is believed",
        file="src/cubbyhole/channels/framing.py",
        old="            if head_bytes > _MAX_HEAD_BYTES or body_bytes > self._limit_bytes:\n",
        new="            if head_bytes > _MAX_HEAD_BYTES and body_bytes == 0:\n",
        kept_by=FUZZ + "test_hostile_bytes_are_refused_in_the_ways_that_callers_know",
        words=("-k", "frames"),
    ),
    Mutation(
        what="an array that was handed over may reach beyond its memory",
        file="src/cubbyhole/core/handed.py",
        old="tensor.at % ALIGN_BYTES or end > memory_bytes:",
        new="tensor.at % ALIGN_BYTES:",
        kept_by=FUZZ + "test_hostile_bytes_are_refused_in_the_ways_that_callers_know",
        words=("-k", "handed"),
    ),
    Mutation(
        what="a batch that was published is kept while its worker waits",
        file="src/cubbyhole/worker/loops/batched.py",
        old="                del batch  # it holds leases of the segment; the next one may be hours away\n",
        new="",
        kept_by="tests/unit/worker/test_leases.py::test_a_waiting_worker_holds_nothing_of_a_batch_that_was_published_beside_the_next",
    ),
]
