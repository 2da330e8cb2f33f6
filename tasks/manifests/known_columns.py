"""The columns that a job reads: what each may hold, and its values in the one type that rows are read in.

What casts without loss is cast: 12.0 and "12" to 12, NaN to nothing, integers and UUIDs to ids, categories to text. A
value that doesn't is left out, and `PROBLEM` says of its row what it was.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.manifests.column_types import Lossy, cast, is_binary, is_text, plain
from tasks.manifests.row_error import Problem, RowFault

PROBLEM = "packshot:problem"  # the column of a batch that says what is wrong with a row: a `Problem`
PROBLEM_TYPE = pa.struct({field.name: pa.large_string() for field in fields(Problem)})
UNKNOWN = (ValueError, OverflowError, KeyError, pa.ArrowException)  # what Python says of values that it can't hold
EXACT = 2**53  # up to which every whole number is a double
LARGEST = 2**63 - 1  # that a column of whole numbers holds
WRITTEN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")  # numbers, as programs write them
LONGEST_SHOWN = 40  # characters of a value that is none


@dataclass(frozen=True)
class Columns:
    """The columns that a job reads, by what they hold."""

    text: tuple[str, ...]
    whole: tuple[str, ...]  # numbers
    real: tuple[str, ...] = ("guidance",)
    image: tuple[str, ...] = ()  # text or bytes; every one must be there
    further: tuple[str, ...] = ()  # pictures, too, that may not be there
    masks: tuple[str, ...] = ()  # pictures that say where something is on others: they may not be there
    idle: tuple[str, ...] = ()  # pictures that nothing in the job reads: they may not be there
    templated: str | None = None  # the text that a job's template builds where there is none
    instead: str | None = None  # the column in which rows name a text instead of having one

    @property
    def pictures(self) -> tuple[str, ...]:
        """The columns of pictures that the job reads."""
        return (*self.image, *self.further, *self.masks)

    @property
    def known(self) -> tuple[str, ...]:
        """Every column that the job reads, whatever it holds."""
        return (*self.text, *self.whole, *self.real, *self.pictures)

    def wanted(self, column: str) -> str:
        """Return what a column holds, for people."""
        if column in self.pictures:
            return "text or bytes"
        if column == "id":
            return "text, whole numbers or UUIDs"
        return "text" if column in self.text else "whole numbers" if column in self.whole else "numbers"

    def fits(self, column: str, kind: pa.DataType) -> bool:
        """Say whether a column of this type can be read."""
        kind = plain(kind)
        if pa.types.is_null(kind):
            return column != "id"
        if column in self.pictures:
            return is_text(kind) or is_binary(kind) or _is_picture(kind)
        if column in self.text:
            return _is_word(kind) or (column == "id" and (_is_uuid(kind) or _is_number(kind)))
        return _is_number(kind) or _is_word(kind)

    def is_number_as_text(self, column: str, kind: pa.DataType) -> bool:
        """Say whether a column of this type holds numbers, if it does, as they are written."""
        return column in (*self.whole, *self.real) and _is_word(plain(kind))


PROMPTS = Columns(
    text=("id", "prompt", "negative_prompt", "profile"),
    whole=("seed", "width", "height", "steps", "variants"),
    idle=("control",),
    templated="prompt",
)
CONTROLLED = replace(PROMPTS, image=("control",), idle=())  # of a job with a ControlNet
PICTURES = Columns(
    text=("id", "caption", "negative_prompt", "profile"),
    whole=("seed", "layers", "resolution", "steps"),
    image=("image",),
)

EDITS = Columns(
    text=("id", "instruction", "instruction_name", "scene", "colour", "keep", "negative_prompt", "profile"),
    whole=("seed", "width", "height", "steps", "variants"),
    image=("image",),
    further=("image2", "image3"),
    masks=("mask",),
    templated="instruction",
    instead="instruction_name",
)


@dataclass(frozen=True)
class Read:
    """A known column as rows read it, and what is wrong with rows of it, by their numbers."""

    values: pa.Array
    problems: dict[int, Problem] = field(default_factory=dict)


def read_known(columns: Columns, name: str, array: pa.Array) -> Read:
    """Bring a known column to the type that rows read: text, int64, float64, bytes, or a struct of bytes and path."""
    kind = plain(array.type)
    if name == "id":
        return read_id(array)
    if columns.is_number_as_text(name, kind):
        return _written(name, array, is_whole=name in columns.whole)
    if name in columns.whole:
        return _whole(name, array)
    if name in columns.real:
        return _real(name, array)
    if name in columns.pictures:
        if _is_picture(kind):
            return _picture(name, array)
        if is_binary(kind):
            return Read(_cast(array, pa.large_binary()))
    return read_text(name, array)


def read_text(name: str, array: pa.Array) -> Read:
    """Bring a column of text, in whatever layout, to text; what isn't UTF-8 is left out."""
    if pa.types.is_null(array.type):
        return Read(array.cast(pa.large_string()))
    broken = broken_texts(array)
    if broken:
        array = pc.if_else(pa.array(_mask(len(array), broken)), None, _cast(array, pa.large_binary()))
    return Read(
        _cast(_cast(array, plain(array.type)), pa.large_string()),
        dict.fromkeys(broken, Problem(name, RowFault.ENCODING, f"The {name} isn't text in UTF-8.")),
    )


def broken_texts(array: pa.Array) -> list[int]:
    """Return the numbers of the rows of a column of text, or of bytes, that aren't UTF-8."""
    content = _cast(_cast(array, plain(array.type)), pa.large_binary())
    try:
        content.view(pa.large_string()).validate(full=True)
    except pa.ArrowInvalid:
        return [number for number, value in enumerate(content.to_pylist()) if value is not None and not _is_utf8(value)]
    return []


def read_id(array: pa.Array) -> Read:
    """Bring ids to text: whole numbers as their digits, UUIDs as they are usually written."""
    kind = plain(array.type)
    if _is_uuid(kind):
        stored = array.storage if isinstance(array, pa.ExtensionArray) else array
        values = [None if value is None else str(uuid.UUID(bytes=value)) for value in stored.to_pylist()]
        return Read(pa.array(values, pa.large_string()))
    if _is_number(kind):
        read = _whole("id", array)
        return Read(read.values.cast(pa.large_string()), read.problems)
    return read_text("id", array)


def _whole(name: str, array: pa.Array) -> Read:
    array = _cast(array, plain(array.type))
    if pa.types.is_null(array.type) or pa.types.is_signed_integer(array.type):
        return Read(array.cast(pa.int64()))
    if pa.types.is_decimal(array.type):
        values = [_from_decimal(value) for value in array.to_pylist()]
        bad = {n: _not_whole(name, value) for n, value in enumerate(values) if isinstance(value, Decimal)}
        return Read(pa.array([None if n in bad else v for n, v in enumerate(values)], pa.int64()), bad)
    if pa.types.is_integer(array.type):
        fits = pc.less_equal(array, pa.scalar(LARGEST, pa.uint64())) if array.type == pa.uint64() else None
    else:
        array = array.cast(pa.float64())
        array = pc.if_else(pc.is_nan(array), None, array)
        fits = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), float(LARGEST)))
        if name == "id":  # beyond that, two ids may have become one
            fits = pc.and_(fits, pc.less_equal(pc.abs(array), float(EXACT)))
    wrong = [] if fits is None else pc.indices_nonzero(pc.fill_null(pc.invert(fits), False)).to_pylist()
    problems = {n: _not_whole(name, array[n].as_py()) for n in wrong}
    if wrong:
        array = pc.if_else(fits, array, None)
    return Read(array.cast(pa.int64()), problems)


def _written(name: str, array: pa.Array, *, is_whole: bool) -> Read:
    """Bring a column of numbers that are written as text to numbers."""
    read = read_text(name, array)
    texts = read.values.dictionary_encode()
    found = [_number(name, text, is_whole=is_whole) for text in texts.dictionary.to_pylist()]
    values = pa.array([value for value, _ in found], pa.int64() if is_whole else pa.float64())
    bad = {number: problem for number, (_, problem) in enumerate(found) if problem}
    rows = enumerate(texts.indices.to_pylist()) if bad else ()
    problems = {row: bad[number] for row, number in rows if number in bad}
    return Read(values.take(texts.indices), problems | read.problems)


def _number(name: str, text: str, *, is_whole: bool) -> tuple[float | None, Problem | None]:
    """Return the number that is written, if any is, and what is wrong with a text that says something else."""
    text = text.strip()
    if not text or text.lower() == "nan":
        return None, None
    if len(text) > LONGEST_SHOWN or not WRITTEN.fullmatch(text):
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
        wanted = "a whole number" if is_whole else "a number"
        return None, Problem(name, RowFault.NO_NUMBER, f"{name.capitalize()} is {shown!r}; it should be {wanted}.")
    if not is_whole:
        return float(text), None
    value = _from_decimal(Decimal(text))
    return (None, _not_whole(name, value)) if isinstance(value, Decimal) else (value, None)


def _not_whole(name: str, value: float | Decimal) -> Problem:
    is_large = abs(float(value)) > LARGEST
    most = f" of at most {LARGEST}" if is_large else ""
    sentence = f"{name.capitalize()} is {value}; it should be a whole number{most}."
    return Problem(name, RowFault.TOO_LARGE if is_large else RowFault.NO_NUMBER, sentence)


def _from_decimal(value: Decimal | None) -> int | Decimal | None:
    if value is None:
        return None
    whole = value == value.to_integral_value() and abs(value) <= LARGEST
    return int(value) if whole else value


def _real(name: str, array: pa.Array) -> Read:
    del name
    array = _cast(array, plain(array.type)).cast(pa.float64(), safe=False)
    return Read(pc.if_else(pc.is_nan(array), None, array))


def _picture(name: str, array: pa.Array) -> Read:
    """Return a struct of a picture's bytes and path, as Hugging Face datasets store pictures."""
    path = read_text(name, pc.struct_field(array, "path"))
    content = _cast(pc.struct_field(array, "bytes"), pa.large_binary())
    values = pa.StructArray.from_arrays([content, path.values], ["bytes", "path"], mask=array.is_null())
    return Read(values, path.problems)


def problems_of(read: Iterable[Read], rows: int) -> pa.Array:
    """Return the column that says of each row what is wrong with it first; null where nothing is."""
    problems: dict[int, Problem] = {}
    for one in read:
        problems = {**one.problems, **problems}
    if not problems:
        return pa.nulls(rows, PROBLEM_TYPE)
    return pa.array([asdict(problems[row]) if row in problems else None for row in range(rows)], PROBLEM_TYPE)


def texts(name: str, array: pa.Array) -> Read:
    """Bring a column that a prompt template reads to text, each value by itself; NaN is nothing."""
    kind = plain(array.type)
    if is_text(kind) or pa.types.is_null(kind):
        return read_text(name, array)
    problems: dict[int, Problem] = {}
    values: list[str | None] = []
    for number, value in enumerate(_cast(array, kind)):
        try:
            values.append(_text(value))
        except UNKNOWN:
            values.append(None)
            sentence = f"The value of the column {name!r} can't be written as text, which the template needs."
            problems[number] = Problem(name, RowFault.NO_TEXT, sentence)
    return Read(pa.array(values, pa.large_string()), problems)


def _text(scalar: pa.Scalar) -> str | None:
    try:
        value: Any = scalar.as_py()
    except UNKNOWN:
        text = str(scalar.cast(pa.string()).as_py())
        if text.startswith("<"):  # how Arrow writes a date that it can't: <value out of range: 2147483647>
            raise ValueError(text) from None
        return text
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _cast(array: pa.Array, to: pa.DataType) -> pa.Array:
    """Return an array in a type that surely holds its values."""
    try:
        return cast(array, to)
    except Lossy as error:
        raise AssertionError(f"{array.type} doesn't become {to}: {error}") from error


def _mask(rows: int, places: list[int]) -> np.ndarray:
    mask = np.zeros(rows, bool)
    mask[places] = True
    return mask


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_word(kind: pa.DataType) -> bool:
    """Say whether a type is text, or the bytes of texts."""
    return is_text(kind) or (is_binary(kind) and not pa.types.is_fixed_size_binary(kind))


def _is_uuid(kind: pa.DataType) -> bool:
    stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return bool(pa.types.is_fixed_size_binary(stored) and stored.byte_width == 16)


def _is_picture(kind: pa.DataType) -> bool:
    """Say whether a type is {bytes, path}, as Hugging Face datasets store pictures."""
    if not pa.types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    if set(fields) != {"bytes", "path"} or kind.num_fields != len(fields):
        return False
    is_path = is_text(fields["path"]) or pa.types.is_null(fields["path"])
    return is_path and (is_binary(fields["bytes"]) or pa.types.is_null(fields["bytes"]))


def holds_bytes(kind: pa.DataType) -> bool:
    """Say whether a column of pictures holds them itself, in part at least."""
    kind = plain(kind)
    return is_binary(kind) or _is_picture(kind)
