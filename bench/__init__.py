# SPDX-License-Identifier: Apache-2.0
"""Measurements: each figure that the project states, by a command that anybody can run.

`python -m bench servers` compares whole servers, `python -m bench channels` what carries requests between
processes, `python -m bench compare` two result files. Nothing here is part of the wheel.
"""
