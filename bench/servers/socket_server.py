# SPDX-License-Identifier: Apache-2.0
"""Blocking sockets and nothing else: reads a body, sends the answer that it knows. What the kernel takes for the bytes, on this machine.

It has no HTTP but a length, no model but an answer that was computed once, and serves one connection at a time.
"""

from __future__ import annotations

import array
import re
import socket
import sys

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def doubled(body: memoryview) -> bytes:
    return array.array("f", [2 * value for value in body.cast("f")]).tobytes()


def serve(connection: socket.socket) -> None:
    room = bytearray(64 << 20)
    known: dict[int, bytes] = {}
    with memoryview(room) as view:
        while True:
            got = 0
            while (end := room.find(b"\r\n\r\n", 0, got)) < 0:
                got += _received(connection, view[got:])
            found = LENGTH.search(room, 0, end)
            if found is None:
                raise ValueError("no length")
            size = int(found[1])
            start = end + 4
            while got < start + size:
                got += _received(connection, view[got : start + size])
            if size not in known:
                known[size] = doubled(memoryview(bytes(view[start : start + size])))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            connection.sendall(known[size])


def _received(connection: socket.socket, into: memoryview) -> int:
    count = connection.recv_into(into)
    if not count:
        raise ConnectionError("the client went away")
    return count


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as listening:
        while True:
            accepted, _ = listening.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with accepted:
                try:
                    serve(accepted)
                except (OSError, ValueError):
                    continue
