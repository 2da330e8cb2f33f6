"""Columns of any Arrow type that Parquet holds, with any values, for Hypothesis."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

UNITS = ["s", "ms", "us", "ns"]
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
BYTES = st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff\xfe", b"mug"]))


def leaf_types() -> st.SearchStrategy[pa.DataType]:
    """Give the types that aren't made of others."""
    times = [pa.date32(), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), *map(pa.duration, UNITS)]
    zones = [None, "UTC", "Europe/Berlin", "+14:30", "Mars/Olympus"]
    stamps = [pa.timestamp(unit, zone) for unit in UNITS for zone in zones]
    numbers = [pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()]
    decimals = [pa.decimal128(10, 2), pa.decimal128(38, 0), pa.decimal256(60, 9), pa.decimal64(15, 2)]
    texts = [pa.string(), pa.large_string(), pa.string_view()]
    bytes_ = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16), pa.binary(3)]
    others = [pa.null(), pa.bool_(), pa.uuid(), pa.json_(), pa.json_(pa.string_view()), pa.bool8()]
    return st.sampled_from([*times, *stamps, *numbers, *decimals, *texts, *bytes_, *others])


def types() -> st.SearchStrategy[pa.DataType]:
    """Give types, nested up to three deep."""
    words = [pa.dictionary(pa.int8(), kind) for kind in (pa.string(), pa.large_string(), pa.binary())]

    def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
        return st.one_of(
            inner.map(pa.list_),
            inner.map(pa.large_list),
            inner.map(pa.list_view),
            inner.map(lambda kind: pa.list_(kind, 2)),
            st.tuples(inner, inner).map(lambda pair: pa.struct([("bytes", pair[0]), ("path", pair[1])])),
            inner.map(lambda kind: pa.struct([pa.field("a", kind)])),
            inner.map(lambda kind: pa.map_(pa.string(), kind)),
        )

    return st.recursive(st.one_of(leaf_types(), st.sampled_from(words)), nested, max_leaves=3)


@st.composite
def arrays(draw: st.DrawFn, kind: pa.DataType, rows: int) -> pa.Array:
    """Give an array of so many values of a type."""
    is_ = pa.types
    empty = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    mask = np.array(empty, bool)

    def made(values: st.SearchStrategy[Any], of: pa.DataType = kind) -> pa.Array:
        some = draw(st.lists(values, min_size=rows, max_size=rows))
        return pa.array([None if gone else value for gone, value in zip(empty, some, strict=True)], of)

    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, draw(arrays(kind.storage_type, rows)))
    if is_.is_null(kind):
        return pa.nulls(rows)
    if is_.is_dictionary(kind):
        words = pa.array([b"mug", b"cup"] if is_.is_binary(kind.value_type) else ["mug", "cup"], kind.value_type)
        return pa.DictionaryArray.from_arrays(made(st.integers(0, 1), pa.int8()), words)
    if is_.is_boolean(kind):
        return made(st.booleans())
    if is_.is_decimal(kind):
        return made(st.integers(-(10**8) + 1, 10**8 - 1).map(lambda value: Decimal(value).scaleb(-min(kind.scale, 2))))
    if is_.is_floating(kind):
        numbers = made(st.floats(width=32) | st.sampled_from([12.0, 12.5, 1e300]), pa.float64())
        return numbers.cast(kind, safe=False)
    if is_.is_integer(kind) or is_.is_temporal(kind):
        width = 32 if is_.is_time32(kind) or is_.is_date32(kind) else 64
        stored = kind if is_.is_integer(kind) else pa.int32() if width == 32 else pa.int64()
        bits = stored.bit_width
        low, high = (0, 2**bits - 1) if is_.is_unsigned_integer(stored) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if is_.is_time(kind):
            low, high = 0, 86_399_999
        return made(st.integers(low, high) | st.sampled_from([0, 1, 64]), stored).view(kind)
    if is_.is_fixed_size_binary(kind):
        return made(st.binary(min_size=kind.byte_width, max_size=kind.byte_width))
    if is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_binary_view(kind):
        return made(BYTES)
    if is_.is_string(kind) or is_.is_large_string(kind):
        if draw(st.booleans()):
            return made(WORDS)
        bytes_ = made(BYTES, pa.large_binary() if is_.is_large_string(kind) else pa.binary())
        return bytes_.view(kind)
    if is_.is_string_view(kind):
        return made(WORDS)
    if is_.is_struct(kind):
        inner = [draw(arrays(field.type, rows)) for field in kind]
        return pa.StructArray.from_arrays(inner, fields=list(kind), mask=pa.array(mask))
    if is_.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(draw(arrays(kind.value_type, 2 * rows)), type=kind)
    sizes = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    if is_.is_map(kind):
        keys = pa.array([f"k{n}" for n in range(int(offsets[-1]))], kind.key_type)
        return pa.MapArray.from_arrays(
            pa.array(offsets, pa.int32()), keys, draw(arrays(kind.item_type, len(keys))), type=kind
        )
    values = draw(arrays(kind.value_type, int(offsets[-1])))
    if is_.is_list_view(kind):
        return pa.ListViewArray.from_arrays(
            pa.array(offsets[:-1], pa.int32()), pa.array(sizes, pa.int32()), values, type=kind
        )
    form, width = (pa.LargeListArray, pa.int64()) if is_.is_large_list(kind) else (pa.ListArray, pa.int32())
    return form.from_arrays(pa.array(offsets, width), values, type=kind, mask=pa.array(mask))
