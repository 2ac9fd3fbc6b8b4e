# SPDX-License-Identifier: Apache-2.0
"""`SharedDict` does what a dict does, whatever the order of operations."""

from __future__ import annotations

import gc
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cubbyhole import SharedDict

KEYS = st.one_of(st.sampled_from([f"k{i}" for i in range(12)]), st.text(max_size=40))
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=50),
    st.binary(max_size=300),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=8), inner, max_size=4),
    ),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


class AgainstDict(RuleBasedStateMachine):
    """Two processes' worth of handles on one segment, and a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Any] = {}
        # Few buckets, so that chains are long and every way of linking is walked.
        self.shared = SharedDict.create(bytes=2**22, buckets=4)
        self.second = SharedDict.attach(*self.address())

    def address(self) -> tuple[int, int]:
        return os.getpid(), self.shared.fileno()

    @rule(key=KEYS, value=VALUES)
    def store(self, key: str, value: Any) -> None:
        self.shared[key] = value
        self.model[key] = value

    @rule(key=KEYS, value=VALUES)
    def store_through_the_other(self, key: str, value: Any) -> None:
        self.second[key] = value
        self.model[key] = value

    @rule(key=KEYS)
    def look_up(self, key: str) -> None:
        missing = object()
        found = self.second.get(key, missing)
        if key in self.model:
            assert same(found, self.model[key])
        else:
            assert found is missing

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        if key in self.model:
            del self.model[key]
            del self.shared[key]
        else:
            assert key not in self.shared

    @rule(key=KEYS)
    def pop(self, key: str) -> None:
        missing = object()
        assert same(self.second.pop(key, missing), self.model.pop(key, missing))

    @rule(key=KEYS, value=VALUES)
    def set_default(self, key: str, value: Any) -> None:
        assert same(self.shared.setdefault(key, value), self.model.setdefault(key, value))

    @rule(pairs=st.dictionaries(KEYS, ATOMS, max_size=5))
    def update(self, pairs: dict[str, Any]) -> None:
        self.shared.update(pairs)
        self.model.update(pairs)

    @precondition(lambda self: self.model)
    @rule()
    def pop_any(self) -> None:
        key, value = self.shared.popitem()
        assert same(value, self.model.pop(key))

    @rule()
    def clear(self) -> None:
        self.second.clear()
        self.model.clear()

    @invariant()
    def keys_are_the_same(self) -> None:
        assert len(self.shared) == len(self.model)
        found = list(self.second)
        assert len(found) == len(set(found))
        assert set(found) == set(self.model)

    @invariant()
    def no_block_is_lost(self) -> None:
        assert self.shared.statistics().used_blocks == len(self.model)

    def teardown(self) -> None:
        for key, value in self.model.items():
            assert same(self.shared[key], value)
        self.shared.clear()
        gc.collect()
        assert self.shared.statistics().used_blocks == 0
        self.second.close()
        self.shared.close()


AgainstDict.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAgainstDict = AgainstDict.TestCase
