# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log: a row of C for each request, and text of all rows at once.

In Python the two took 5 % of a request that does nothing. Here nothing is made for a request but references to what it has anyway; which
words may stand in a line as they are, and how others are written, is decided by who uses it (observe/access_lines.py).
"""
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object word)
    const unsigned char *PyUnicode_1BYTE_DATA(object word)
    Py_ssize_t PyUnicode_GET_LENGTH(object word)
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

cdef extern from "<time.h>":
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *time) nogil

cdef enum:
    ROWS = 64
    VALUES = 8

AT_ONCE = ROWS

cdef struct Row:
    int64_t ended_ns
    int64_t took_ns
    int64_t size
    int status
    PyObject *method
    PyObject *path
    PyObject *client
    PyObject *name


cdef class Notes:
    """Up to `AT_ONCE` requests that were answered.

    Args:
        when_first: Called when there is something again.
        when_full: Called when there is no more room: must take what there is.
    """

    cdef Row rows[ROWS]
    cdef int count
    cdef char *text
    cdef Py_ssize_t used, room
    cdef object when_first, when_full

    def __cinit__(self, when_first, when_full):
        self.when_first, self.when_full = when_first, when_full
        self.count = 0
        self.text = NULL
        self.used = self.room = 0

    def __dealloc__(self):
        self.clear()
        free(self.text)

    def __len__(self):
        return self.count

    def note(self, dict scope, int64_t began_ns, int status, int64_t size, bytes name=b""):
        """Note a request that ends now: its ASGI scope, when it came, its status (0: nobody could be answered), its answer's bytes and id."""
        cdef timespec now
        if self.count == ROWS:
            raise BufferError("nobody took what was noted")
        method, path, client = scope["method"], scope["path"], scope.get("client")
        cdef Row *row = &self.rows[self.count]
        clock_gettime(CLOCK_MONOTONIC, &now)
        row.ended_ns = now.tv_sec * 1000000000 + now.tv_nsec
        row.took_ns = max(0, row.ended_ns - began_ns)
        row.size, row.status = size, status
        Py_INCREF(method)
        Py_INCREF(path)
        Py_INCREF(client)
        Py_INCREF(name)
        row.method, row.path = <PyObject *>method, <PyObject *>path
        row.client, row.name = <PyObject *>client, <PyObject *>name
        self.count += 1
        if self.count == ROWS:
            self.when_full()
        elif self.count == 1:
            self.when_first()

    def take(self):
        """Return the requests as tuples: when they ended, how long they took (ns), method, path, status, bytes, client, id; none is left."""
        cdef Row *row
        found = []
        for number in range(self.count):
            row = &self.rows[number]
            found.append((
                row.ended_ns, row.took_ns, <object>row.method, <object>row.path, row.status, row.size, <object>row.client,
                <object>row.name,
            ))
        self.clear()
        return found

    def make(self, tuple parts, int64_t stamp_ns, moment, escape):
        """Return a line for each request; none is left.

        Args:
            parts: What stands before, between and after the eight values: moment, method, path, status, ms, bytes, client, id.
            stamp_ns: To be added to a time of the monotonic clock.
            moment: Time of day in ms -> text; called once for those of the same millisecond.
            escape: Word -> text, for those that are not plain: printable ASCII without space, quotes and backslash.
        """
        cdef Row *row
        cdef int64_t wall_ms, last_ms = -1
        cdef uint64_t us
        cdef bytes when = b""
        if len(parts) != VALUES + 1:
            raise ValueError(f"{len(parts)} parts around {VALUES} values")
        cdef bytes p0, p1, p2, p3, p4, p5, p6, p7, p8
        p0, p1, p2, p3, p4, p5, p6, p7, p8 = parts
        self.used = 0
        try:
            for number in range(self.count):
                row = &self.rows[number]
                wall_ms = (stamp_ns + row.ended_ns) // 1000000
                if wall_ms != last_ms:
                    last_ms, when = wall_ms, moment(wall_ms).encode()
                self.put(p0)
                self.put(when)
                self.put(p1)
                self.put_word(<object>row.method, escape)
                self.put(p2)
                self.put_word(<object>row.path, escape)
                self.put(p3)
                self.put_number(<uint64_t>row.status, 1)
                self.put(p4)
                us = <uint64_t>row.took_ns // 1000
                self.put_number(us // 1000, 1)
                self.put(b".")
                self.put_number(us % 1000, 3)
                self.put(p5)
                self.put_number(<uint64_t>row.size, 1)
                self.put(p6)
                self.put_peer(<object>row.client, escape)
                self.put(p7)
                name = <bytes>row.name
                self.put_word(name.decode("latin-1") if name else "-", escape)
                self.put(p8)
        finally:  # a row that cannot be written must not stand in the way of all that come
            self.clear()
        return PyUnicode_DecodeUTF8(self.text, self.used, "replace")

    cdef void clear(self):
        cdef Row *row
        while self.count:
            self.count -= 1
            row = &self.rows[self.count]
            Py_DECREF(<object>row.method)
            Py_DECREF(<object>row.path)
            Py_DECREF(<object>row.client)
            Py_DECREF(<object>row.name)

    cdef int put_raw(self, const char *data, Py_ssize_t size) except -1:
        cdef char *grown
        if self.used + size > self.room:
            grown = <char *>realloc(self.text, 2 * (self.used + size) + 4096)
            if grown == NULL:
                raise MemoryError
            self.text, self.room = grown, 2 * (self.used + size) + 4096
        memcpy(self.text + self.used, data, size)
        self.used += size
        return 0

    cdef int put(self, bytes part) except -1:
        return self.put_raw(part, len(part))

    cdef int put_word(self, object word, object escape) except -1:
        cdef const unsigned char *data
        cdef Py_ssize_t size, at
        cdef unsigned char c
        if PyUnicode_IS_COMPACT_ASCII(word):
            data, size = PyUnicode_1BYTE_DATA(word), PyUnicode_GET_LENGTH(word)
            for at in range(size):
                c = data[at]
                if c <= 0x20 or c >= 0x7F or c == 0x22 or c == 0x5C:
                    break
            else:
                return self.put_raw(<const char *>data, size)
        return self.put((<str>escape(word)).encode("utf-8", "replace"))

    cdef int put_peer(self, object client, object escape) except -1:
        if client is None:
            return self.put(b"-")
        self.put_word(client[0], escape)
        self.put(b":")
        return self.put_number(<uint64_t>client[1], 1)

    cdef int put_number(self, uint64_t value, int digits) except -1:
        cdef char made[24]
        cdef int at = 24
        while value or digits > 0:
            at -= 1
            made[at] = <char>(48 + value % 10)
            value //= 10
            digits -= 1
        return self.put_raw(made + at, 24 - at)
