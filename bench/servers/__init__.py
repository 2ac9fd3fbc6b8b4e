# SPDX-License-Identifier: Apache-2.0
"""One file for each contender, run by the python of its own virtual environment: `NAME_server.py WORKLOAD PORT`.

Workloads, the same in all: noop (`{"input": x}` -> `{"output": x * x}`), raw (float32 bytes -> twice them, as bytes),
sleep (noop with 5 ms of work, 4 model processes), batch (noop with 10 ms of work for up to 32 together), stream
(100 chunks of 6 bytes: x * 100 + 0..99). numpy is imported for raw only, so that memory and start-up are the server's own.
"""
