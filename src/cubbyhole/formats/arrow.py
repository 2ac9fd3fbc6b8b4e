# SPDX-License-Identifier: Apache-2.0
"""A table as an Arrow IPC stream; needs pyarrow (`pip install 'cubbyhole[arrow]'`). Columns are views of the body.

pyarrow does not check what it maps unless it is told to: each batch is validated in full before anybody sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubbyhole.core.errors import HTTPError, MalformedBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cubbyhole.core.entries import Buffer


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as error:
        raise HTTPError(
            415, "This server reads no Arrow: pyarrow is not installed beside it."
        ) from error
    return pa


def read_arrow(body: Buffer) -> Any:
    """Read a `pyarrow.Table`.

    Raises:
        MalformedBody: it is no Arrow IPC stream, or one whose buffers do not fit.
        HTTPError: 415, pyarrow is not installed.
    """
    pa = _pyarrow()
    # Compressed buffers would be unpacked to a size that only their head tells; whoever wants that can do it in decode_request.
    try:
        with pa.ipc.open_stream(pa.py_buffer(memoryview(body).cast("B"))) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise MalformedBody(f"Request body is no Arrow stream: {str(error)[:200]}") from error
    return table


def columns(table: Any) -> dict[str, Any]:
    """Return a table's columns as numpy arrays by name; views where a column is one run of numbers without gaps.

    Raises:
        MalformedBody: two columns have the same name.
    """
    if len(set(table.column_names)) != table.num_columns:
        raise MalformedBody("Request body is an Arrow table with two columns of the same name.")
    found = {}
    for name in table.column_names:
        column = table.column(name)
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        array = whole.to_numpy(zero_copy_only=False)
        array.flags.writeable = False
        found[name] = array
    return found


def write_arrow(value: Any) -> memoryview:
    """Write a table, a record batch, or columns by name.

    Raises:
        TypeError: no table can be made of it.
    """
    pa = _pyarrow()
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    elif not isinstance(value, pa.Table):
        value = _as_table(pa, value)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema) as writer:
        writer.write_table(value)
    return memoryview(sink.getvalue())


def _as_table(pa: Any, value: Mapping[str, Any]) -> Any:
    try:
        return pa.table(dict(value))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TypeError(f"No Arrow table can be made of the answer: {error}") from error
