# SPDX-License-Identifier: Apache-2.0
"""What a tree of processes costs: the package's `measuring.processes`, which `cubbyhole bench` uses too."""

from cubbyhole.measuring.processes import (
    cpu_by_process_s,
    cpu_s,
    describe,
    end_tree,
    machine_busy_s,
    memory_mib,
    tree,
)

__all__ = [
    "cpu_by_process_s",
    "cpu_s",
    "describe",
    "end_tree",
    "machine_busy_s",
    "memory_mib",
    "tree",
]
