# SPDX-License-Identifier: Apache-2.0
"""Forms of a body other than JSON: bytes <-> arrays, tables and plain data. What comes in is hostile, and nothing is unpickled.

    media.py          names, media types, and which of them an Accept header asks for
    npy.py            one array, as numpy.save writes it
    safetensors.py    arrays by name
    packed.py         MessagePack: plain data, and arrays as the package msgpack-numpy writes them
    arrow.py          a table, as an Arrow IPC stream (pyarrow)
    images.py         an image file (Pillow), read only
    tensors.py        torch's tensors on the memory of any of these
    reading.py        a body of any of these as what was asked for: an array, arrays by name, tensors, a table
    writing.py        the other way

Used by workers (`worker/reading.py`, `worker/answers.py`) and by `cubbyhole.Client`; imports of numpy, torch and pyarrow are made
when they are first needed.
"""
