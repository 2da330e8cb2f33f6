"""Types of columns: which one holds the values of two without loss, and values brought to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import pyarrow as pa

from tasks.errors import RequestError

LARGEST_PRECISION = 76  # digits of a decimal256
DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}  # that integers of so many bits may have, but for uint64
UNITS = ("s", "ms", "us", "ns")
BARE = {
    pa.types.is_string: pa.binary(),
    pa.types.is_large_string: pa.large_binary(),
    pa.types.is_string_view: pa.binary_view(),
    pa.types.is_time32: pa.int32(),
    pa.types.is_time64: pa.int64(),
    pa.types.is_date64: pa.int64(),
}
"""The types that don't take every value, each with the one of the same bytes that does."""


class Lossy(RequestError):  # noqa: N818
    """Values can't be brought to a type without loss."""


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column is carried: categories as their values, views as what they look into.

    Arrow can't take rows out of views (seen in pyarrow 26), and can't put categories of other files below each other.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if isinstance(kind, pa.BaseExtensionType):
        stored = plain(kind.storage_type)
        return kind if stored.equals(kind.storage_type) else stored
    return _nested(kind, lambda field: pa.field(field.name, plain(field.type), field.nullable))


def of_any_value(kind: pa.DataType) -> pa.DataType:
    """Return the type that the same bytes have where whatever they hold is a value: bytes for texts, whole numbers.

    Arrow validates structure and values in one go, and tells one from the other in a sentence alone (pyarrow 26).
    """
    types = pa.types
    for of_kind, bare in BARE.items():
        if of_kind(kind):
            return bare
    if types.is_decimal(kind):
        return pa.binary(kind.byte_width)
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, of_any_value(kind.value_type), kind.ordered)
    if isinstance(kind, pa.BaseExtensionType):
        return of_any_value(kind.storage_type)
    return _nested(kind, lambda field: field.with_type(of_any_value(field.type)))


def _nested(kind: pa.DataType, change: Callable[[pa.Field], pa.Field]) -> pa.DataType:
    """Return a type with each field that it holds changed; one that holds none as it is."""
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([change(field) for field in kind])
    if types.is_map(kind):
        return pa.map_(change(kind.key_field), change(kind.item_field), kind.keys_sorted)
    if types.is_list(kind):
        return pa.list_(change(kind.value_field))
    if types.is_large_list(kind):
        return pa.large_list(change(kind.value_field))
    if types.is_list_view(kind):
        return pa.list_view(change(kind.value_field))
    if types.is_large_list_view(kind):
        return pa.large_list_view(change(kind.value_field))
    if types.is_fixed_size_list(kind):
        return pa.list_(change(kind.value_field), kind.list_size)
    return kind


def holding(kinds: Iterable[pa.DataType]) -> list[pa.DataType]:
    """Return the types that may hold the values of all these, the likeliest first; none where no type can."""
    first, *others = kinds
    found = [plain(first)]
    for kind in others:
        found = _distinct(chain.from_iterable(_both(one, plain(kind)) for one in found))
    return found


def cast(column: pa.ChunkedArray | pa.Array, to: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Bring a column to a type.

    Raises:
        Lossy: if a value would change, or Arrow doesn't know how.
    """
    if column.type.equals(to):
        return column
    if pa.types.is_null(column.type):  # which Arrow casts to most types, and not to all
        nulls = pa.nulls(len(column), to)
        return pa.chunked_array([nulls]) if isinstance(column, pa.ChunkedArray) else nulls
    try:
        if isinstance(column.type, pa.BaseExtensionType):
            return cast(column.cast(column.type.storage_type), to)
        return column.cast(to)
    except pa.ArrowException as error:
        raise Lossy(str(error)) from error


def stacked(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables below each other; a column gets a type that holds its values of all, and nulls where a table lacks it.

    Raises:
        Lossy: if there is no such type; the message names the column and the types.
    """
    first = tables[0].schema
    if all(table.schema.equals(first) for table in tables) and all(plain(kind).equals(kind) for kind in first.types):
        return pa.concat_tables(tables)
    names = dict.fromkeys(chain.from_iterable(table.schema.names for table in tables))
    columns = {name: _stacked([_column(table, name) for table in tables], name) for name in names}
    fields = []
    for name, column in columns.items():
        there = [table.schema.field(name) for table in tables if name in table.schema.names]
        nullable = any(field.nullable for field in there) or len(there) < len(tables)
        fields.append(pa.field(name, column.type, nullable))
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.schema.names:
        return table.column(name)
    return pa.chunked_array([pa.nulls(table.num_rows)])


def _stacked(columns: Sequence[pa.ChunkedArray], name: str) -> pa.ChunkedArray:
    kinds = _distinct(column.type for column in columns)
    for kind in holding(kinds):
        try:
            chunks = [chunk for column in columns for chunk in cast(column, kind).chunks]
        except Lossy:
            continue
        return pa.chunked_array(chunks, kind)
    raise Lossy(f"The column {name!r} holds {' and '.join(map(str, kinds))}, and no type holds both without loss.")


def _both(one: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    """Return the types that may hold the values of both, which are plain."""
    types = pa.types
    if one.equals(other) or types.is_null(other):
        return [one]
    if types.is_null(one):
        return [other]
    for kind in (one, other):
        if isinstance(kind, pa.BaseExtensionType):
            return _both(*(k.storage_type if isinstance(k, pa.BaseExtensionType) else k for k in (one, other)))
    if all(map(_is_number, (one, other))):
        return _numbers(one, other)
    if all(map(_is_bytes, (one, other))):
        return _texts(one, other)
    if all(map(types.is_temporal, (one, other))):
        return _times(one, other)
    if all(map(types.is_struct, (one, other))):
        return _structs(one, other)
    if all(map(types.is_map, (one, other))):
        keys, items = _both(one.key_type, other.key_type), _both(one.item_type, other.item_type)
        return [pa.map_(key, item) for key, item in _side_by_side([keys, items])]
    if all(map(_is_list, (one, other))):
        return _lists(one, other)
    return []


def _numbers(one: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    types = pa.types
    floats, decimals = types.is_floating, types.is_decimal
    if floats(one) or floats(other):
        if decimals(one) or decimals(other):
            return []  # most decimals are none of a binary fraction's values
        if floats(one) and floats(other):
            return [max(one, other, key=lambda kind: kind.bit_width)]
        return [pa.float64()]
    if decimals(one) or decimals(other):
        scale = max(kind.scale if decimals(kind) else 0 for kind in (one, other))
        before = max(map(_digits, (one, other)))
        return [_decimal(before + scale, scale)] if before + scale <= LARGEST_PRECISION else []
    if types.is_signed_integer(one) == types.is_signed_integer(other):
        return [max(one, other, key=lambda kind: kind.bit_width)]
    signed, unsigned = (one, other) if types.is_signed_integer(one) else (other, one)
    width = max(signed.bit_width, 2 * unsigned.bit_width)
    if width <= 64:
        return [{16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[width]]
    return [pa.int64(), pa.uint64(), _decimal(20, 0)]


def _digits(kind: pa.DataType) -> int:
    """Return how many digits a number may have before its point."""
    if pa.types.is_decimal(kind):
        return int(kind.precision - kind.scale)
    return DIGITS[kind.bit_width] + int(kind.equals(pa.uint64()))


def _decimal(precision: int, scale: int) -> pa.DataType:
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _texts(one: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    large = any(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) for kind in (one, other))
    if all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in (one, other)):
        return [pa.large_string()]
    return [pa.large_binary() if large else pa.binary()]


def _times(one: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    types = pa.types
    if types.is_date(one) and types.is_date(other):
        return [pa.date32(), pa.date64()]
    if types.is_timestamp(one) and types.is_timestamp(other):
        if one.tz != other.tz:
            return []
        return [pa.timestamp(unit, one.tz) for unit in _units(one, other)]
    if types.is_duration(one) and types.is_duration(other):
        return [pa.duration(unit) for unit in _units(one, other)]
    if types.is_time(one) and types.is_time(other):
        finest = _units(one, other)[0]
        return [pa.time64(finest)] if finest in ("us", "ns") else [pa.time32(finest)]
    return []


def _units(one: pa.DataType, other: pa.DataType) -> list[str]:
    return sorted({one.unit, other.unit}, key=UNITS.index, reverse=True)


def _structs(one: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    fields = [{field.name: field.type for field in kind} for kind in (one, other)]
    if len(fields[0]) < one.num_fields or len(fields[1]) < other.num_fields:  # two of one name
        return []
    names = list(dict.fromkeys([*fields[0], *fields[1]]))
    options = [_both(fields[0].get(name, pa.null()), fields[1].get(name, pa.null())) for name in names]
    return [pa.struct(list(zip(names, kinds, strict=True))) for kinds in _side_by_side(options)]


def _lists(one: pa.DataType, other: pa.DataType) -> list[pa.DataType]:
    values = _both(one.value_type, other.value_type)
    if pa.types.is_fixed_size_list(one) and pa.types.is_fixed_size_list(other) and one.list_size == other.list_size:
        return [pa.list_(value, one.list_size) for value in values]
    large = pa.types.is_large_list(one) or pa.types.is_large_list(other)
    return [(pa.large_list if large else pa.list_)(value) for value in values]


def _side_by_side(options: Sequence[Sequence[pa.DataType]]) -> list[tuple[pa.DataType, ...]]:
    """Return the likeliest of each, and the last of each, which holds most."""
    if not all(options):
        return []
    return list(dict.fromkeys([tuple(each[0] for each in options), tuple(each[-1] for each in options)]))


def _distinct(kinds: Iterable[pa.DataType]) -> list[pa.DataType]:
    found: list[pa.DataType] = []
    for kind in kinds:
        if not any(kind.equals(one) for one in found):
            found.append(kind)
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return is_text(kind) or is_binary(kind)


def is_text(kind: pa.DataType) -> bool:
    """Say whether a type is text, in whatever layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Say whether a type is bytes, in whatever layout."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
