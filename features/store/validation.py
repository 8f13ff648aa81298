"""Validates Arrow data against a declared table on every write and read.

Returns the data unchanged, or raises a TableError that names the table, the column, the rule, the number of offending
rows and three examples.
Trade-off: a hundred lines of Arrow kernels instead of a validation library, so that training machines do not need
Polars (docs/decisions/0012-contracts-by-hand.md).
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.errors import TableError
from features.runtime.params import digest
from features.schema import Column, Table


def schema_digest(table: Table) -> str:
    """Digest of the names, types, nullability and rules of `table`; meanings are not included."""
    return digest([
        table.name, table.key,
        [(c.name, str(c.type), c.nullable, c.values, c.minimum, c.maximum) for c in table.columns],
    ])  # fmt: skip


def conform(data: pa.Table, table: Table) -> pa.Table:
    """Reorders and casts `data` to the declared columns.

    Raises:
        TableError: A declared column is missing, a column is undeclared, or a type cannot be cast safely.
    """
    declared, found = set(table.arrow.names), set(data.schema.names)
    if declared != found:
        raise TableError(
            f"columns missing {sorted(declared - found)} and undeclared {sorted(found - declared)} in {table.name}",
            f"{table.arrow.names}", "fix the stage that writes it, or features/schema.py",
        )  # fmt: skip
    for column in table.columns:
        check_nulls(data, table, column)
    return pa.table([_cast(data.column(c.name), table, c) for c in table.columns], schema=table.arrow)


def check_rows(data: pa.Table, table: Table) -> None:
    """Raises TableError for the first rule of `table` that `data` violates; columns may be missing."""
    for column in table.columns:
        if column.name in data.column_names:
            check_column(data, table, column)
    if set(table.key) <= set(data.column_names):
        check_order(data, table)


def check_column(data: pa.Table, table: Table, column: Column) -> None:
    """Raises TableError with the rule, the count and three offending rows if `column` violates its declaration."""
    values = data.column(column.name)
    if not column.type.equals(values.type):
        raise TableError(
            f"{table.name} with {column.name} of type {values.type}", str(column.type),
            f"fix the stage that writes {table.name}",
        )  # fmt: skip
    check_nulls(data, table, column)
    if column.values and not set(pc.unique(values).to_pylist()) <= {*column.values, None}:
        known = pc.is_in(values, pa.array(column.values))
        _refuse(data, table, column, f"must be one of {column.values}", pc.and_(pc.is_valid(values), pc.invert(known)))
    if column.minimum is not None:
        _refuse(data, table, column, f"must be at least {column.minimum:g}", pc.less(values, column.minimum))
    if column.maximum is not None:
        _refuse(data, table, column, f"must be at most {column.maximum:g}", pc.greater(values, column.maximum))
    if pa.types.is_floating(column.type):
        _refuse(data, table, column, "must be finite", pc.invert(pc.is_finite(values)))


def check_nulls(data: pa.Table, table: Table, column: Column) -> None:
    """Raises TableError with the count and three rows if `column`, or a list in it, holds a forbidden null."""
    values = data.column(column.name)
    if not column.nullable and values.null_count:
        _refuse(data, table, column, "must not be null", pc.is_null(values))
    listed = pa.types.is_nested(values.type) and pa.types.is_nested(column.type)
    if listed and not column.type.value_field.nullable:
        elements = pc.list_flatten(values)
        if elements.null_count:
            rows = pc.list_parent_indices(values.combine_chunks()).filter(pc.is_null(elements.combine_chunks()))
            holds = pc.is_in(pa.array(range(data.num_rows), rows.type), rows)
            _refuse(data, table, column, "must hold no null", holds)


def check_order(data: pa.Table, table: Table) -> None:
    """Raises TableError with the count and three rows unless keys ascend (strictly, if the key is unique)."""
    if data.num_rows < 2:
        return
    ascends: Any = None
    for name in reversed(table.key):
        values = data.column(name).combine_chunks()
        before, after = values[:-1], values[1:]
        if ascends is None:
            ascends = pc.greater(after, before) if table.unique else pc.greater_equal(after, before)
        else:
            ascends = pc.or_(pc.greater(after, before), pc.and_(pc.equal(after, before), ascends))
    if not pc.all(ascends).as_py():
        broken = pa.concat_arrays([pa.array([False]), pc.invert(ascends)])
        rule = f"must ascend{' without repeats' if table.unique else ''} by {table.key}"
        _refuse(data, table, next(c for c in table.columns if c.name == table.key[-1]), rule, broken)


def check_key(data: pa.Table, table: Table, where: object) -> None:
    """Raises TableError with three examples if a key of `table` occurs twice in `data`."""
    if not table.unique or data.num_rows == 0:
        return
    counts = data.group_by(list(table.key)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if repeated.num_rows:
        raise TableError(
            f"{repeated.num_rows} repeated keys {table.key} in {where}, such as {repeated.slice(0, 3).to_pylist()}",
            "unique keys", f"fix the stage that writes {table.name}",
        )  # fmt: skip


def key_of(data: pa.Table, table: Table, row: int) -> list[Any]:
    """The key of one row, such as [17, 2]."""
    return [data.column(name)[row].as_py() for name in table.key]


def _cast(values: pa.ChunkedArray, table: Table, column: Column) -> pa.ChunkedArray:
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(
            f"{table.name} with {column.name} of type {values.type} ({str(error).splitlines()[0]:.120})",
            str(column.type), f"fix the stage that writes {table.name}",
        ) from error  # fmt: skip


def _refuse(data: pa.Table, table: Table, column: Column, rule: str, broken: Any) -> None:
    """Raises TableError if any row is `broken` (Boolean; null counts as False)."""
    count = pc.sum(broken).as_py() or 0
    if count:
        names = dict.fromkeys(name for name in (*table.key, column.name) if name in data.column_names)
        rows = data.filter(broken, null_selection_behavior="drop").slice(0, 3).select(list(names))
        raise TableError(
            f"{count} rows of {table.name} where {column.name} {rule} does not hold, such as "
            f"{', '.join(_short(row) for row in rows.to_pylist())}",
            "none", f"fix the stage that writes {table.name}",
        )  # fmt: skip


def _short(row: Mapping[str, Any]) -> str:
    """A row for an error message, at most 100 characters."""
    text = repr(dict(row))
    return text if len(text) <= 100 else f"{text[:96]} ...}}"
