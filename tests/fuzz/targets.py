# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: each target takes bytes and may raise only what its callers expect.

Flow:  test_fuzz.py (seeded, seconds), fuzz.py (atheris, as long as wanted) -> **TARGETS**
"""

from __future__ import annotations

import gc
import os
import socket
import struct
import warnings
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cubbyhole.channels.framing import Final, Link, encoder
from cubbyhole.channels.shm import SharedMemoryChannel
from cubbyhole.core.entries import RequestMeta
from cubbyhole.core.errors import ChannelError, HTTPError, MalformedBody
from cubbyhole.core.failures import RING_BYTES, FailureRecord, keep_failure, read_failures
from cubbyhole.core.handed import Ask, Tensor, check_tensor
from cubbyhole.core.roster import TEXT_BYTES, read_description
from cubbyhole.formats.npy import read_npy
from cubbyhole.formats.packed import read_packed, write_packed
from cubbyhole.formats.safetensors import read_safetensors, write_safetensors
from cubbyhole.front.forms import parse_form
from cubbyhole.specs.oip_tensors import check_head, declare, from_json, from_raw
from cubbyhole.worker.reading import decode_meta, reader_for

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_BYTES = 1 << 20
HANDED_BYTES = 128  # just what the example needs: one changed byte of a shape may reach beyond it
REFUSALS = (HTTPError, MalformedBody, msgspec.MsgspecError, UnicodeDecodeError)


def frames(data: bytes) -> None:
    """What a peer of the socket channels sends."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        link = Link(ours, LIMIT_BYTES, memoryview(bytearray(64)).cast("Q"), 0)
        theirs.sendall(data[: 32 << 10])
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(64):
            if link.closed:
                break
            link.receive()
        assert link.closed
        link.close()


def npy(data: bytes) -> None:
    """A body of application/x-npy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about headers of Python 2
        array = read_npy(data)
    assert array.nbytes <= len(data)
    assert not array.flags.writeable


def safetensors(data: bytes) -> None:
    """A body of application/x-safetensors."""
    for array in read_safetensors(data).values():
        assert array.nbytes <= 2 * len(data)  # bfloat16 is widened
        assert not array.flags.writeable


def packed(data: bytes) -> None:
    """A body of application/msgpack."""
    read_packed(data)


def handed(data: bytes) -> None:
    """What a client on the same machine says of its memory."""
    ask = msgspec.msgpack.decode(data, type=Ask)
    for one in ask.tensors:
        check_tensor(one, HANDED_BYTES)
        assert 0 <= one.at <= one.at + one.size_bytes <= HANDED_BYTES


def body(data: bytes) -> None:
    """A JSON body for an API without annotations: what is none is a `MalformedBody`, and nothing else."""
    try:
        reader_for(lambda request: request, None)(data, b"")
    except UnicodeDecodeError as error:
        raise AssertionError("not refused as a body") from error


def meta(data: bytes) -> None:
    """What a front says beside a body."""
    decode_meta(data)


def form(data: bytes) -> None:
    """A form, of both kinds."""
    split = data.find(b"\0")
    kind = data[: max(split, 0)].decode("latin-1")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # files in memory that the parser leaves to their end
        found = parse_form(data[split + 1 :], "multipart/form-data; boundary=" + (kind or "b"))
        for value in found.values():
            if not isinstance(value, str):
                value.file.close()
        del found
        gc.collect(0)


def urlencoded(data: bytes) -> None:
    """A form as browsers send the simple ones."""
    parse_form(data, "application/x-www-form-urlencoded")


_SPECS = [declare("x", kind, (-1, 2)) for kind in ("FP32", "BF16", "BYTES", "BOOL", "INT8")]


def tensor(data: bytes) -> None:
    """A tensor of the Open Inference Protocol, binary."""
    if len(data) < 9:
        return
    spec = _SPECS[data[0] % len(_SPECS)]
    shape = list(struct.unpack_from("<ii", data, 1))
    count = check_head(spec, spec.datatype, shape)
    array = from_raw(spec, shape, count, memoryview(data)[9:])
    assert array.shape == tuple(shape)


def tensor_json(data: bytes) -> None:
    """The same as JSON."""
    read = msgspec.json.decode(data)
    for spec in _SPECS:
        try:
            found = from_json(spec, [1, 2], 2, read)
        except HTTPError:
            continue
        assert found.shape == (1, 2)


def failure_ring(data: bytes) -> None:
    """The room of a front's last failures, written over."""
    ring = bytearray(RING_BYTES)
    keep_failure(memoryview(ring), FailureRecord(id=1, message="m"))
    keep_failure(memoryview(ring), FailureRecord(id=2, message="m"))
    for at in range(0, len(data) - 8, 9):
        place = int.from_bytes(data[at : at + 2], "little") % (64 + 2 * 4096)
        ring[place : place + 7] = data[at + 2 : at + 9]
    read_failures(memoryview(bytes(ring)))


def description(data: bytes) -> None:
    """The text at the end of a roster."""
    fd = os.memfd_create("fuzz")
    try:
        os.pwrite(fd, bytes(TEXT_BYTES), 0)
        os.pwrite(fd, data[:TEXT_BYTES], 0)
        assert len(read_description(fd)) <= TEXT_BYTES
    finally:
        os.close(fd)


def segment(data: bytes) -> None:
    """A memfd that looks like a segment, seen by an observer."""
    from cubbyhole.channels.base import ChannelSettings

    channel = SharedMemoryChannel.create(ChannelSettings(fronts=1, workers=1, arena_bytes=1 << 20))
    try:
        fd = channel._fd
        for at in range(0, len(data) - 11, 12):
            where = int.from_bytes(data[at : at + 4], "little") % os.fstat(fd).st_size
            os.pwrite(fd, data[at + 4 : at + 12], where if data[at] & 1 else where % 512)
        try:
            channel.snapshot(past=True)
            channel.find(1)
            channel.statistics()
        except (ChannelError, _core_error()):
            pass
    finally:
        channel.close()


def _core_error() -> type[Exception]:
    from cubbyhole._native._segment import CoreError

    return CoreError


def _npy_bytes() -> bytes:
    import io

    out = io.BytesIO()
    np.save(out, np.arange(6, dtype=np.float32).reshape(2, 3))
    return out.getvalue()


def _frame() -> bytes:
    head = encoder()(Final(1, 200, b"m", 5))
    return struct.pack("<IQ", len(head), 3) + head + b"abc"


# name -> the target, and inputs to begin with
TARGETS: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
    "frames": (frames, [_frame() * 3]),
    "npy": (npy, [_npy_bytes()]),
    "safetensors": (
        safetensors,
        [b"".join(map(bytes, write_safetensors({"x": np.zeros((2, 2), "f4"), "y": np.arange(3)})))],
    ),
    "packed": (packed, [write_packed({"a": np.arange(6.0).reshape(2, 3), "b": [1, b"x", None]})]),
    "handed": (
        handed,
        [msgspec.msgpack.encode(Ask("/predict", [Tensor("x", "F32", (4, 4), 64)], out=True))],
    ),
    "body": (body, [b'{"input": [1, 2.5, "text"]}', b'["a","b"]']),
    "meta": (meta, [msgspec.msgpack.encode(RequestMeta("a/b", "q=1", [("h", "v")], "i", "t"))]),
    "form": (
        form,
        [
            b'b\0--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nhello\r\n--b--\r\n'
        ],
    ),
    "urlencoded": (urlencoded, [b"a=1&b=%20x;c"]),
    "tensor": (tensor, [bytes([i]) + struct.pack("<ii", 1, 2) + bytes(8) for i in range(5)]),
    "tensor_json": (tensor_json, [b"[[1,2]]", b'["a","b"]', b"[true,1e400]"]),
    "failure_ring": (failure_ring, [bytes(range(90))]),
    "description": (description, [struct.pack("=Q", 5) + b"hello"]),
    "segment": (segment, [bytes(range(96)), bytes([1] * 48)]),
}
