"""Rows of a manifest of pictures and instructions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from models.requests import EditDefaults, edit_size, is_stretched
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.ready_made import ReadyMade, ready_made_of
from tasks.manifests.known_columns import EDITS
from tasks.manifests.manifest import known_values
from tasks.manifests.row import BadRow, PlannedPicture, Row, check_id, check_length, check_plain, check_read
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.originals import READING_THREADS, OriginalReference, Originals, unread
from tasks.rows.row_defaults import KnownCheckpoint, RowDefaults, row_defaults, sampled
from tasks.rows.row_variants import LARGEST, SMALLEST, check_sides, side_of, variants_of, varied
from tasks.rows.text_template import TextTemplate, extra_values
from tasks.sources.source_error import SourceError

OF_THE_PICTURE = 0
"""A side of a row that nobody has named: its picture's aspect decides it."""


@dataclass(frozen=True, kw_only=True)
class EditRowDefaults(RowDefaults):
    """What a row gets where it says nothing, with what rows of pictures and instructions alone have."""

    width: int  # or OF_THE_PICTURE
    height: int
    variants: int
    template: TextTemplate | None
    ready_made: ReadyMade
    resolution: int  # see `models.requests.EditDefaults`, as the next one
    vision_resolution: int
    most_pictures: int  # that the checkpoint looks at

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that the job's template and its ready-made instruction read; None where it has neither."""
        named = self.ready_made.columns
        if self.template is None and named is None:
            return None
        return tuple(dict.fromkeys([*(self.template.columns if self.template else ()), *(named or ())]))


@dataclass(frozen=True)
class InstructionRows:
    """Reads rows, and the pictures of each once: their contents decide the row's key."""

    defaults: EditRowDefaults
    originals: Originals

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give the rows that a batch asks for, each with the number of its manifest row in the batch."""
        self.originals.begin()
        values = known_values(batch, EDITS)
        extra = extra_values(batch, self.defaults.columns or ()) or [{}] * len(values)
        with ThreadPoolExecutor(READING_THREADS, "source") as pool:
            for index, rows in enumerate(pool.map(self._rows, values, extra)):
                yield from ((index, row) for row in rows)

    def keep(self, row: Row) -> None:
        """Put the pictures that the manifest holds where lanes can read them."""
        self.originals.keep(row)

    def _rows(self, values: Mapping[str, Any], carried: Mapping[str, Any]) -> list[Row | BadRow]:
        text = values.get("instruction") or ""
        try:
            row, variants = asked_of(values, carried, self.defaults)
            text = row.prompt
            looks = {column: self._look(column, values[column]) for column in given(values)}
            row = fitted(row, looks, self.defaults)
        except RowError as error:
            return [BadRow.of(values["id"], text, error)]
        except SourceError as error:
            return [unread(values["id"], text, error)]
        first, *references = (PlannedPicture(one.address, one.source) for one in looks.values())
        made = replace(row, image=first.image, source=first.source, references=tuple(references))
        return [*varied(made, variants)]

    def _look(self, column: str, value: Any) -> OriginalReference:
        try:
            return self.originals.look(column, value)
        except SourceError as error:
            if column not in EDITS.further:
                raise
            raise error.of(column) from None


def given(values: Mapping[str, Any]) -> list[str]:
    """Return the columns of pictures that a row says something in; the first one always counts."""

    def says(column: str) -> bool:
        value = values.get(column)
        return any(value.values()) if isinstance(value, dict) else bool(value)

    return [*EDITS.image, *(column for column in EDITS.further if says(column))]


def asked_of(values: Mapping[str, Any], carried: Mapping[str, Any], defaults: EditRowDefaults) -> tuple[Row, int]:
    """Return what a row asks for without its pictures, with the sides that somebody named, and how many it wants.

    Raises:
        RowError: with a sentence, if a value is wrong.
    """
    check_id(values["id"])
    check_read(values)
    ready_made = defaults.ready_made.named(values)
    said = defaults.ready_made.values_of(ready_made, {**carried, **values}) if ready_made else {}
    instruction = values.get("instruction") or ""
    if not instruction.strip():
        check_read(carried)
        if defaults.template is not None:
            instruction = defaults.template.fill({**carried, **values})
        elif ready_made is not None:
            instruction = defaults.ready_made.text_of(ready_made, said)
        else:
            raise RowError(Problem("instruction", RowFault.EMPTY, "The instruction is empty."))
    settings = sampled(values, defaults)
    for column, text in (("instruction", instruction), ("negative_prompt", settings["negative_prompt"])):
        check_length(column, text)
        check_plain(column, text)
    columns = given(values)
    if len(columns) > defaults.most_pictures:
        sentence = (
            f"The row has {len(columns)} pictures, and the checkpoint looks at {defaults.most_pictures}: leave "
            f"{columns[defaults.most_pictures]} empty, or use Qwen-Image-Edit-2509 or later."
        )
        raise RowError(Problem(columns[defaults.most_pictures], RowFault.OUT_OF_RANGE, sentence))
    width = _named_side(values, "width", defaults.width, defaults.size_multiple)
    height = _named_side(values, "height", defaults.height, defaults.size_multiple)
    row = Row(id=values["id"], prompt=instruction, width=width, height=height, **settings)
    if ready_made is not None:
        row = replace(
            row,
            instruction_name=(values.get("instruction_name") or "").strip() or defaults.ready_made.default,
            instruction_values=said,
            checks_digest=ready_made.digest,
        )
    return row, variants_of(values, defaults.variants)


def _named_side(values: Mapping[str, Any], name: str, default: int, multiple: int) -> int:
    if values.get(name) is None and default == OF_THE_PICTURE:
        return OF_THE_PICTURE
    return side_of(values, name, default, multiple)


def fitted(row: Row, looks: Mapping[str, OriginalReference], defaults: EditRowDefaults) -> Row:
    """Return a row at its size: what nobody has named of it follows from the aspect of its last picture.

    Raises:
        RowError: with a sentence, if a picture can't be looked at in its own aspect, or the size can't be drawn.
    """
    size = (row.width, row.height)
    for column, look in looks.items():
        size = _condition_size(column, look, defaults)
    *_, (column, last) = looks.items()
    multiple = defaults.size_multiple
    if row.width and row.height:
        return row
    if row.width:
        size = row.width, round(row.width * last.height / last.width / multiple) * multiple
    elif row.height:
        size = round(row.height * last.width / last.height / multiple) * multiple, row.height
    if not SMALLEST <= min(size) <= max(size) <= LARGEST:
        sentence = (
            f"A picture of {last.width} × {last.height} would come out at {size[0]} × {size[1]}, and sides lie between "
            f"{SMALLEST} and {LARGEST}: give width and height, or another picture."
        )
        raise RowError(Problem(column, RowFault.ASPECT, sentence))
    return replace(row, width=size[0], height=size[1])


def _condition_size(column: str, look: OriginalReference, defaults: EditRowDefaults) -> tuple[int, int]:
    """Return the size at which a picture is encoded."""
    try:
        edit_size(look.width, look.height, defaults.vision_resolution, 1)
        size = edit_size(look.width, look.height, defaults.resolution, defaults.size_multiple)
    except ValueError as error:
        raise RowError(Problem(column, RowFault.ASPECT, str(error))) from error
    if is_stretched(look.width, look.height, size):
        sentence = (
            f"A picture of {look.width} × {look.height} would be looked at as {size[0]} × {size[1]}, in another "
            "aspect; add background to its long sides, or crop it."
        )
        raise RowError(Problem(column, RowFault.ASPECT, sentence))
    return size


def edit_row_defaults(job: EditJob, known: KnownCheckpoint[EditDefaults], most_pictures: int) -> EditRowDefaults:
    """Return the job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be edited with them, or the instruction template is wrong.
    """
    common = row_defaults(job, known)
    check_sides(job.sampling.width, job.sampling.height, common.size_multiple)
    template = job.sources.instruction_template
    return EditRowDefaults(
        width=job.sampling.width or OF_THE_PICTURE,
        height=job.sampling.height or OF_THE_PICTURE,
        variants=job.sampling.variants,
        template=TextTemplate(template, "instruction") if template else None,
        ready_made=ready_made_of(job),
        resolution=known.defaults.resolution,
        vision_resolution=known.defaults.vision_resolution,
        most_pictures=most_pictures,
        **vars(common),
    )
