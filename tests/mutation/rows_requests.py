# SPDX-License-Identifier: Apache-2.0
"""Protections of requests, to be taken out one at a time: see taken_out.py."""

from __future__ import annotations

from tests.mutation.taken_out import Mutation

ROWS: list[Mutation] = []
