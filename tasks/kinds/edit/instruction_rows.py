"""Rows of a manifest of pictures and instructions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

from models.requests import EditDefaults, edit_size, is_stretched
from safety.fidelity.instruction import Instruction, InstructionError
from safety.fidelity.kept_product import METHOD, check_keeps
from safety.fidelity.text_reading import reads_texts
from tasks.errors import RequestError
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.ready_made import ReadyMade, ready_made_of
from tasks.manifests.key import digest
from tasks.manifests.known_columns import EDITS, PROBLEM
from tasks.manifests.manifest import known_values
from tasks.manifests.row import (
    BadRow,
    PlannedPicture,
    Row,
    check_id,
    check_length,
    check_plain,
    check_read,
    is_blank,
)
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.originals import READING_THREADS, OriginalReference, Originals, unread
from tasks.rows.row_defaults import KnownCheckpoint, RowDefaults, row_defaults, sampled
from tasks.rows.row_variants import LARGEST, SMALLEST, check_sides, side_of, variants_of, varied
from tasks.rows.text_template import TextTemplate, extra_values
from tasks.sources.source_error import SourceError

SEEN = (*EDITS.image, *EDITS.further)
"""The columns of the pictures that a model looks at, in their order."""
(MASK,) = EDITS.masks
KEPT = ("product", "none")  # what the column `keep` may say
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
    keep: str = "none"  # one of `KEPT`
    reads_texts: bool = False  # see `tasks.kinds.edit.edit_spec.EditSpec`
    finding: str | None = None  # how products are found that nothing tells: see `tasks.kinds.edit.mask_finder`
    said: frozenset[str] = frozenset()  # what the job itself says of sampling, by name: instructions say no other

    def with_sampling(self, instruction: Instruction | None) -> Self:
        """Return the same, where the job leaves something open with what a ready-made instruction says of it."""
        if instruction is None:
            return self
        open_to = {name: value for name, value in instruction.sampling.said.items() if name not in self.said}
        return replace(self, **open_to) if open_to else self

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that the job's template and its ready-made instruction read; None where it has neither."""
        named = self.ready_made.columns
        if self.template is None and named is None:
            return None
        return tuple(dict.fromkeys([*(self.template.columns if self.template else ()), *(named or ())]))


@dataclass(frozen=True)
class Asked:
    """What a manifest row asks for, as far as that takes no picture."""

    row: Row  # with the sides that somebody named
    variants: int
    instruction: Instruction | None  # the ready-made one whose checks its results have to pass
    keeps_product: bool

    def decided_by(self, mask: OriginalReference | None, defaults: EditRowDefaults) -> Row:
        """Return the row with all that its mask, if it has one, and the product's own pixels decide of it."""
        named, row = mask.source if mask else defaults.finding, self.row
        if self.keeps_product:
            row = replace(row, keep_digest=digest([METHOD, named]))
        if self.instruction is not None:
            texts = defaults.reads_texts and self.instruction.compares_texts
            checks = self.instruction.digest
            row = replace(row, checks_digest=digest([checks, named, texts]) if named or texts else checks)
        if mask is not None and (self.keeps_product or self.instruction is not None):
            row = replace(row, mask=PlannedPicture(mask.address, mask.source, MASK))
        return row


@dataclass(frozen=True)
class InstructionRows:
    """Reads rows, and the pictures of each once: their contents decide the row's key."""

    defaults: EditRowDefaults
    originals: Originals

    def read(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Row | BadRow]]:
        """Give the rows that a batch asks for, each with the number of its manifest row in the batch."""
        self.originals.begin()
        values = known_values(batch, EDITS)
        extra = filling_values(batch, self.defaults)
        with ThreadPoolExecutor(READING_THREADS, "source") as pool:
            for index, rows in enumerate(pool.map(self._rows, values, extra)):
                yield from ((index, row) for row in rows)

    def keep(self, row: Row) -> None:
        """Put the pictures that the manifest holds where lanes can read them."""
        self.originals.keep(row)

    def _rows(self, values: Mapping[str, Any], carried: Mapping[str, Any]) -> list[Row | BadRow]:
        text = values.get("instruction") or ""
        try:
            asked = asked_of(values, carried, self.defaults)
            text = asked.row.prompt
            looks = {column: self._look(column, values[column]) for column in given(values)}
            mask = self._mask(values, looks)
            row = fitted(asked.decided_by(mask, self.defaults), looks, self.defaults)
        except RowError as error:
            return [BadRow.of(values["id"], text, error)]
        except SourceError as error:
            return [unread(values["id"], text, error)]
        first, *references = (PlannedPicture(one.address, one.source, column) for column, one in looks.items())
        made = replace(row, image=first.image, source=first.source, references=tuple(references))
        return [*varied(made, asked.variants)]

    def _mask(self, values: Mapping[str, Any], looks: Mapping[str, OriginalReference]) -> OriginalReference | None:
        """Return the mask of a row, if it has one, which lies over its first picture.

        Raises:
            SourceError: if it can't be read.
            RowError: if it has another size.
        """
        if not _says(values, MASK):
            return None
        mask, (under, *_) = self._look(MASK, values[MASK]), looks.values()
        if (mask.width, mask.height) != (under.width, under.height):
            sentence = (
                f"The mask is {mask.width} × {mask.height} pixels, and its picture {under.width} × {under.height}: "
                "give one of the picture's own size."
            )
            raise RowError(Problem(MASK, RowFault.ASPECT, sentence))
        return mask

    def _look(self, column: str, value: Any) -> OriginalReference:
        try:
            return self.originals.look(column, value)
        except SourceError as error:
            if column in EDITS.image:
                raise
            raise error.of(column) from None


def filling_values(batch: pa.RecordBatch, defaults: EditRowDefaults) -> list[dict[str, Any]]:
    """Return what the texts of a batch's rows are filled from, besides known columns, one dict a row.

    A manifest has the columns that its job reads; of those that the instructions read which its rows may name, it has
    what it has.
    """
    named = [name for name in defaults.ready_made.places if name in batch.schema.names and name not in EDITS.known]
    columns = dict.fromkeys([*(defaults.columns or ()), *named])
    return extra_values(batch, tuple(columns)) or [{}] * batch.num_rows


def given(values: Mapping[str, Any]) -> list[str]:
    """Return the columns of pictures to look at that a row says something in; the first one always counts."""
    return [*EDITS.image, *(column for column in EDITS.further if _says(values, column))]


def _says(values: Mapping[str, Any], column: str) -> bool:
    value = values.get(column)
    return any(value.values()) if isinstance(value, dict) else bool(value)


def asked_of(values: Mapping[str, Any], carried: Mapping[str, Any], defaults: EditRowDefaults) -> Asked:
    """Return what a row asks for, without its pictures.

    Raises:
        RowError: with a sentence, if a value is wrong.
    """
    check_id(values["id"])
    check_read(values)
    ready_made = defaults.ready_made.named(values)
    said = defaults.ready_made.values_of(ready_made, {**carried, **values}) if ready_made else {}
    instruction = values.get("instruction") or ""
    if is_blank(instruction):
        if defaults.template is not None:
            _check_filled(carried, defaults.template.columns)
            instruction = defaults.template.fill({**carried, **values})
        elif ready_made is not None:
            _check_filled(carried, ready_made.fields)
            instruction = defaults.ready_made.text_of(ready_made, said)
        else:
            sentence = "The instruction is empty: write one, or name a ready-made one in the column instruction_name."
            raise RowError(Problem("instruction", RowFault.EMPTY, sentence))
    settings = sampled(values, defaults.with_sampling(ready_made))
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
        )
    return Asked(row, variants_of(values, defaults.variants), ready_made, _keeps(values, ready_made, defaults))


def _check_filled(carried: Mapping[str, Any], columns: Collection[str]) -> None:
    """Refuse a row of which a value can't be written as text that its own text needs; another may be what it likes.

    Raises:
        RowError: as the manifest's reader noted it.
    """
    if carried.get(PROBLEM, {}).get("column") in columns:
        check_read(carried)


def _keeps(values: Mapping[str, Any], instruction: Instruction | None, defaults: EditRowDefaults) -> bool:
    """Say whether the source's own product is to be laid over a row's result.

    Raises:
        RowError: if its instruction means to change the product, or the row says something else.
    """
    said = (values.get("keep") or "").strip().lower() or defaults.keep
    if said not in KEPT:
        sentence = f"The keep is {said[:60]!r}; it should be {' or '.join(KEPT)}."
        raise RowError(Problem("keep", RowFault.OUT_OF_RANGE, sentence))
    if said == "product" and instruction is not None:
        try:
            check_keeps(instruction)
        except InstructionError as error:
            raise RowError(Problem("keep", RowFault.OUT_OF_RANGE, str(error))) from error
    return said == "product"


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
        raise _of_aspect(column, sentence)
    return replace(row, width=size[0], height=size[1])


def _condition_size(column: str, look: OriginalReference, defaults: EditRowDefaults) -> tuple[int, int]:
    """Return the size at which a picture is encoded."""
    try:
        edit_size(look.width, look.height, defaults.vision_resolution, 1)
        size = edit_size(look.width, look.height, defaults.resolution, defaults.size_multiple)
    except ValueError as error:
        raise _of_aspect(column, str(error)) from error
    if is_stretched(look.width, look.height, size):
        sentence = (
            f"A picture of {look.width} × {look.height} would be looked at as {size[0]} × {size[1]}, in another "
            "aspect; add background to its long sides, or crop it."
        )
        raise _of_aspect(column, sentence)
    return size


def _of_aspect(column: str, sentence: str) -> RowError:
    named = sentence if column in EDITS.image else f"{column}: {sentence}"
    return RowError(Problem(column, RowFault.ASPECT, named))


def edit_row_defaults(
    job: EditJob, known: KnownCheckpoint[EditDefaults], most_pictures: int, finding: str | None = None
) -> EditRowDefaults:
    """Return the job's values over the checkpoint's own, within what the checkpoint can do.

    Args:
        job: what was asked for.
        known: the checkpoint.
        most_pictures: that it looks at.
        finding: see `EditRowDefaults`; which rows fail takes none.

    Raises:
        RequestError: if no row could be edited with them, the instruction template is wrong, or the job's own
            instruction changes the product that it wants to keep.
    """
    common, sampling, ready_made = row_defaults(job, known), job.sampling, ready_made_of(job)
    if job.output.keep == "product" and ready_made.default is not None:
        try:
            check_keeps(ready_made.instructions[ready_made.default])
        except InstructionError as error:
            raise RequestError(f"The job is wrong: {error}") from error
    said = {name for name in ("steps", "guidance") if getattr(sampling, name) is not None}
    if sampling.negative_prompt != type(sampling).model_fields["negative_prompt"].default:
        said.add("negative_prompt")
    check_sides(job.sampling.width, job.sampling.height, common.size_multiple)
    template = job.sources.instruction_template
    return EditRowDefaults(
        width=job.sampling.width or OF_THE_PICTURE,
        height=job.sampling.height or OF_THE_PICTURE,
        variants=job.sampling.variants,
        template=TextTemplate(template, "instruction") if template else None,
        ready_made=ready_made,
        resolution=known.defaults.resolution,
        vision_resolution=known.defaults.vision_resolution,
        most_pictures=most_pictures,
        keep=job.output.keep,
        reads_texts=reads_texts(),
        finding=finding,
        said=frozenset(said),
        **vars(common),
    )
