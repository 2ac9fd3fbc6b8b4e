# SPDX-License-Identifier: Apache-2.0
"""What the channels cost on this machine: `cubbyhole bench channels`, and what `bench/` of a clone builds on.

Each run has a process of its own (`jobs`), which holds an asyncio front and a spawned worker (`channel_run`). What starts runs and
writes tables needs nothing but the standard library, so that `python -m bench` runs from a clone in which nothing is installed.

Flow:  cli/bench.py, bench/ -> **channels.py** -> jobs.py -> `python -m cubbyhole.measuring.channel_run` -> tables.py
"""
