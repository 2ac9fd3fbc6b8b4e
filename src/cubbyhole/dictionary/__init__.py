# SPDX-License-Identifier: Apache-2.0
"""`SharedDict`: a dictionary in shared memory, for anybody's processes."""

from cubbyhole.dictionary.records import DictionarySnapshot as DictionarySnapshot
from cubbyhole.dictionary.records import DictionaryStatistics as DictionaryStatistics
from cubbyhole.dictionary.records import KeySnapshot as KeySnapshot
from cubbyhole.dictionary.shared_dict import SharedDict as SharedDict

__all__ = ["DictionarySnapshot", "DictionaryStatistics", "KeySnapshot", "SharedDict"]
