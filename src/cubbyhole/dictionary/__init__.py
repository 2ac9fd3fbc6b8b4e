# SPDX-License-Identifier: Apache-2.0
"""`SharedDict`: a dictionary in shared memory, for anybody's processes. It needs nothing of the server."""

from cubbyhole.core.errors import NativeCoreMissing

try:  # before any module of the room is imported: whoever needs the core is told in one line
    from cubbyhole._native import _index as _index
except ImportError as error:
    raise NativeCoreMissing.because(error) from error

from cubbyhole.dictionary.records import DictionarySnapshot as DictionarySnapshot
from cubbyhole.dictionary.records import DictionaryStatistics as DictionaryStatistics
from cubbyhole.dictionary.records import KeySnapshot as KeySnapshot
from cubbyhole.dictionary.shared_dict import SharedDict as SharedDict

__all__ = ["DictionarySnapshot", "DictionaryStatistics", "KeySnapshot", "SharedDict"]
