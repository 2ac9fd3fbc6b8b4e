# SPDX-License-Identifier: Apache-2.0
"""Promises without a protection of ours to take out, and why: a model with mutants of its own, another project's doing."""

from __future__ import annotations

NOT_TAKEN_OUT: dict[str, str] = {}
