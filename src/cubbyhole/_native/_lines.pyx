# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# SPDX-License-Identifier: Apache-2.0
"""Lines of the access log: a row of plain bytes for each request, and text of many rows at once, without the interpreter's lock.

A row holds no object: those of 64 requests, kept for a line, came back to the allocator in another order than they were taken, and all
other code paid for it. Rows lie one after the other in memory that is used again and again; text is made by whoever writes it, in a
thread. Which words are escaped and how is decided by who uses it (observe/access_lines.py).
"""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object word)
    const unsigned char *PyUnicode_1BYTE_DATA(object word)
    Py_ssize_t PyUnicode_GET_LENGTH(object word)
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct tm:
        int tm_sec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *time)
    tm *gmtime_r(const time_t *moment, tm *found)
    tm *localtime_r(const time_t *moment, tm *found)
    size_t strftime(char *text, size_t size, const char *form, const tm *moment)

cdef enum:
    ROWS = 8192  # each call, and each write, has to wait for the interpreter's lock once
    PARTS = 9
    WORDS = 4
    METHOD = 0
    PATH = 1
    HOST = 2
    NAME = 3
    NO_CLIENT = -1
    FIRST_ROOM = 65536
    ROOM_FOR_VALUES = 256  # of a row that are not words: five numbers and a moment of 64 at most

AT_ONCE = ROWS

cdef struct Word:
    const char *data
    Py_ssize_t size

cdef struct Row:  # and then its words, UTF-8; a multiple of eight bytes in all
    int64_t ended_ns
    int64_t took_ns
    int64_t size
    uint64_t number  # of its entry; 0: it had none
    int32_t status
    int32_t port
    uint32_t lengths[WORDS]
    uint32_t odd  # a bit for each word that is not plain
    uint32_t whole

cdef struct Rows:
    char *data
    Py_ssize_t begin, end, room
    int count


cdef class Notes:
    """Requests that were answered, until lines are made of them.

    One thread notes; one, which may be another, makes lines or takes.

    Args:
        most_bytes: What may be noted and not taken; the rest is counted. A row has 64 bytes and its words.
    """

    cdef Rows filling, reading
    cdef char *text
    cdef Py_ssize_t used, room, most_bytes, row_room
    cdef int64_t left_out, odd
    cdef bint busy

    def __cinit__(self, Py_ssize_t most_bytes):
        self.most_bytes = most_bytes

    def __dealloc__(self):
        free(self.filling.data)
        free(self.reading.data)
        free(self.text)

    def __len__(self):
        return self.filling.count + self.reading.count

    def note(self, dict scope, int64_t began_ns, int status, int64_t size, bytes name=b"", uint64_t number=0):
        """Note a request that ends now: its ASGI scope, when it came, its status (0: nobody could be answered), its answer's bytes and id.

        Without an id it goes by its entry's number.
        """
        try:
            self.add(scope, began_ns, status, size, name, number)
        except Exception:  # a middleware of the user's put something odd into the scope
            self.odd += 1

    cdef int add(self, dict scope, int64_t began_ns, int status, int64_t size, bytes name, uint64_t entry) except -1:
        cdef timespec now
        cdef Word words[WORDS]
        cdef Row *row
        cdef Rows *rows = &self.filling
        cdef Py_ssize_t whole = sizeof(Row)
        cdef int32_t port = NO_CLIENT
        cdef int number
        method, path, client = flat(scope["method"]), flat(scope["path"]), scope.get("client")
        host = b""
        if client is not None:
            host, port = client  # not by index: that is not checked here
            host = flat(host)
        if name and not name.isascii():
            name = name.decode("latin-1").encode()
        view(method, &words[METHOD])
        view(path, &words[PATH])
        view(host, &words[HOST])
        view(name, &words[NAME])
        for number in range(WORDS):
            whole += words[number].size
        whole = (whole + 7) & ~7
        if rows.end + whole > rows.room and not self.make_room(rows, whole):
            self.left_out += 1
            return 0
        row = <Row *>(rows.data + rows.end)
        clock_gettime(CLOCK_MONOTONIC, &now)
        row.ended_ns = now.tv_sec * 1000000000 + now.tv_nsec
        row.took_ns = max(0, row.ended_ns - began_ns)
        row.size, row.status, row.port, row.number = size, status, port, entry
        row.odd, row.whole = 0, <uint32_t>whole
        cdef char *at = <char *>row + sizeof(Row)
        for number in range(WORDS):
            row.lengths[number] = <uint32_t>words[number].size
            if not copy_plain(at, words[number]):
                row.odd |= 1 << number
            at += words[number].size
        rows.end += whole
        rows.count += 1
        return 0

    cdef bint make_room(self, Rows *rows, Py_ssize_t more) except -1:
        cdef Py_ssize_t room = max(FIRST_ROOM, 2 * rows.room)
        if rows.end + more > self.most_bytes:
            return False
        room = min(max(room, rows.end + more), self.most_bytes)
        grown = <char *>realloc(rows.data, room)
        if grown == NULL:
            raise MemoryError
        rows.data, rows.room = grown, room
        return True

    def lost(self):
        """Return how many were not noted since the last call: for want of room, and because something in their scope was odd."""
        found = self.left_out, self.odd
        self.left_out = self.odd = 0
        return found

    def take(self):
        """Return the requests as tuples: when they ended, how long they took (ns), method, path, status, bytes, client, id; none is left."""
        cdef Row *row
        cdef const char *word
        found = []
        self.begin()
        try:
            while self.turn_over():
                while self.reading.begin < self.reading.end:
                    row = <Row *>(self.reading.data + self.reading.begin)
                    word = <const char *>row + sizeof(Row)
                    words = []
                    for number in range(WORDS):
                        words.append(word[:row.lengths[number]].decode("utf-8", "surrogatepass"))
                        word += row.lengths[number]
                    client = None if row.port == NO_CLIENT else (words[HOST], row.port)
                    if not words[NAME] and row.number:
                        words[NAME] = str(row.number)
                    found.append((
                        row.ended_ns, row.took_ns, words[METHOD], words[PATH], row.status, row.size, client, words[NAME],
                    ))
                    self.reading.begin += row.whole
                self.reading.count = 0
        finally:
            self.busy = False
        return found

    def make(self, tuple parts, int64_t stamp_ns, bytes clock, bint utc, escape):
        """Return a line for each request, for `AT_ONCE` at most, which are noted no more; empty: there was none.

        Args:
            parts: What stands before, between and after the eight values: moment, method, path, status, ms, bytes, client, id.
            stamp_ns: To be added to a time of the monotonic clock.
            clock: strftime's form of a moment, which gets its milliseconds behind it.
            utc: It is to be UTC, else local time.
            escape: Word -> text, for those that are not plain: printable ASCII without space, quotes and backslash.
        """
        cdef Word around[PARTS]
        cdef const char *form = clock
        if len(parts) != PARTS or not all(isinstance(part, bytes) for part in parts):
            raise ValueError(f"{len(parts)} parts around {PARTS - 1} values")
        self.begin()
        self.row_room = ROOM_FOR_VALUES
        for number in range(PARTS):
            view(parts[number], &around[number])
            self.row_room += around[number].size
        try:
            if not self.turn_over():
                return ""
            self.used = 0
            with nogil:
                self.write(around, stamp_ns, form, utc, escape)
            return PyUnicode_DecodeUTF8(self.text, self.used, "replace")
        finally:
            self.busy = False

    cdef int begin(self) except -1:
        if self.busy:
            raise BufferError("another thread makes lines of it")
        self.busy = True
        return 0

    cdef bint turn_over(self):
        """Whether there is something to read; what was filled is next. Needs the interpreter's lock, as `note` does."""
        if self.reading.begin < self.reading.end:
            return True
        if self.reading.room > 16 * FIRST_ROOM:  # there was a jam, which is over
            free(self.reading.data)
            self.reading.data, self.reading.room = NULL, 0
        self.reading.begin = self.reading.end = 0
        self.filling, self.reading = self.reading, self.filling
        return self.reading.end > 0

    cdef int write(self, Word *around, int64_t stamp_ns, const char *form, bint utc, object escape) except -1 nogil:
        cdef Row *row
        cdef const char *word
        cdef int64_t wall_ms, last_s = -1
        cdef time_t second
        cdef tm moment
        cdef char when[64]
        cdef Py_ssize_t when_size = 0
        cdef uint64_t us
        cdef int number
        for number in range(ROWS):
            if self.reading.begin == self.reading.end:
                break
            row = <Row *>(self.reading.data + self.reading.begin)
            word = <const char *>row + sizeof(Row)
            self.reading.begin += row.whole
            self.reading.count -= 1
            wall_ms = (stamp_ns + row.ended_ns) // 1000000
            if wall_ms // 1000 != last_s:
                last_s = second = wall_ms // 1000
                if utc:
                    gmtime_r(&second, &moment)
                else:
                    localtime_r(&second, &moment)
                when_size = strftime(when, sizeof(when), form, &moment)
            us = <uint64_t>row.took_ns // 1000
            self.reserve(self.row_room + row.whole)
            self.put(around[0].data, around[0].size)
            self.put(when, when_size)
            self.put(b".", 1)
            self.put_number(<uint64_t>(wall_ms % 1000), 3)
            self.put(around[1].data, around[1].size)
            word = self.put_word(row, METHOD, word, escape)
            self.put(around[2].data, around[2].size)
            word = self.put_word(row, PATH, word, escape)
            self.put(around[3].data, around[3].size)
            self.put_number(<uint64_t>row.status, 1)
            self.put(around[4].data, around[4].size)
            self.put_number(us // 1000, 1)
            self.put(b".", 1)
            self.put_number(us % 1000, 3)
            self.put(around[5].data, around[5].size)
            self.put_number(<uint64_t>row.size, 1)
            self.put(around[6].data, around[6].size)
            if row.port == NO_CLIENT:
                self.put(b"-", 1)
            else:
                word = self.put_word(row, HOST, word, escape)
                self.put(b":", 1)
                self.put_number(<uint64_t>row.port, 1)
            self.put(around[7].data, around[7].size)
            if row.lengths[NAME]:
                self.put_word(row, NAME, word, escape)
            elif row.number:
                self.put_number(row.number, 1)
            else:
                self.put(b"-", 1)
            self.put(around[8].data, around[8].size)
        return 0

    cdef const char *put_word(self, Row *row, int number, const char *word, object escape) except NULL nogil:
        """Put one of a row's words; returns where the next one is."""
        if row.odd & (1 << number):
            self.put_escaped(word, row.lengths[number], self.row_room + row.whole, escape)
        else:
            self.put(word, row.lengths[number])
        return word + row.lengths[number]

    # The interpreter's lock is for functions of their own: one that takes it anywhere takes it at its end in any case, to clean up.

    cdef int put_escaped(self, const char *word, Py_ssize_t size, Py_ssize_t more, object escape) except -1 with gil:
        text = (<str>escape(word[:size].decode("utf-8", "surrogatepass"))).encode("utf-8", "replace")
        self.reserve(len(text) + more)
        self.put(text, len(text))
        return 0

    cdef int reserve(self, Py_ssize_t size) except -1 nogil:
        cdef char *grown
        if self.used + size > self.room:
            grown = <char *>realloc(self.text, 2 * (self.used + size) + FIRST_ROOM)
            if grown == NULL:
                return no_memory()
            self.text, self.room = grown, 2 * (self.used + size) + FIRST_ROOM
        return 0

    cdef inline void put(self, const char *data, Py_ssize_t size) noexcept nogil:
        """Put text for which there is room."""
        memcpy(self.text + self.used, data, size)
        self.used += size

    cdef inline void put_number(self, uint64_t value, int digits) noexcept nogil:
        cdef char made[24]
        cdef int at = 24
        while value or digits > 0:
            at -= 1
            made[at] = <char>(48 + value % 10)
            value //= 10
            digits -= 1
        self.put(made + at, 24 - at)


cdef int no_memory() except -1 with gil:
    raise MemoryError


cdef object flat(object word):
    """A word as something that `view` can look at: ASCII or bytes."""
    if not isinstance(word, str):
        raise TypeError("no text")
    return word if PyUnicode_IS_COMPACT_ASCII(word) else (<str>word).encode("utf-8", "surrogatepass")


cdef int view(object word, Word *found) except -1:
    if isinstance(word, bytes):
        found.data, found.size = <bytes>word, len(<bytes>word)
    else:
        found.data, found.size = <const char *>PyUnicode_1BYTE_DATA(word), PyUnicode_GET_LENGTH(word)
    return 0


cdef inline bint copy_plain(char *to, Word word) noexcept nogil:
    """Copy a word; returns whether it is plain."""
    cdef Py_ssize_t at
    cdef unsigned char c
    cdef bint plain = True
    for at in range(word.size):
        c = <unsigned char>word.data[at]
        to[at] = <char>c
        if c <= 0x20 or c >= 0x7F or c == 0x22 or c == 0x5C:
            plain = False
    return plain
