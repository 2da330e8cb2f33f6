"""Instructions with names: which ones a job's rows may ask for, and what each says of a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safety.fidelity.instruction import Instruction, InstructionError, InstructionValueError, Language, shipped
from tasks.errors import RequestError
from tasks.kinds.edit.edit_job import EditJob
from tasks.manifests.row import Row, check_plain, is_blank
from tasks.manifests.row_error import Problem, RowError, RowFault


@dataclass(frozen=True)
class ReadyMade:
    """The instructions with names that rows may ask for."""

    instructions: Mapping[str, Instruction] = field(default_factory=dict)  # by what rows call them
    default: str | None = None  # that of rows which name none
    language: Language = "en"

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that the job's own instruction reads of every row; None where the job names none."""
        return tuple(sorted(self.instructions[self.default].fields)) if self.default else None

    @property
    def places(self) -> tuple[str, ...]:
        """The columns that the instructions read of rows which name them, where the manifest has them."""
        return tuple(sorted({name for instruction in self.instructions.values() for name in instruction.fields}))

    def named(self, values: Mapping[str, Any]) -> Instruction | None:
        """Return the instruction that a row names, or the job.

        Raises:
            RowError: if there is none of that name.
        """
        name = (values.get("instruction_name") or "").strip() or self.default
        if name is None:
            return None
        if name not in self.instructions:
            known = ", ".join(self.instructions)
            sentence = f"The instruction_name is {name[:60]!r}; it should be one of {known}."
            raise RowError(Problem("instruction_name", RowFault.OUT_OF_RANGE, sentence))
        return self.instructions[name]

    def values_of(self, instruction: Instruction, values: Mapping[str, Any]) -> dict[str, str]:
        """Return what a row has for an instruction's text, by name; what it hasn't got is left out."""
        found = {name: values.get(name) for name in sorted(instruction.fields)}
        return {
            name: str(value).strip() for name, value in found.items() if value is not None and not is_blank(str(value))
        }

    def text_of(self, instruction: Instruction, said: Mapping[str, str]) -> str:
        """Return what a model is told.

        Raises:
            RowError: if a value is missing, too long, or a sign for the model.
        """
        try:
            text = instruction.text(said, self.language)
        except InstructionValueError as error:
            fault = RowFault.EMPTY if error.is_missing else RowFault.TOO_LONG
            raise RowError(Problem(error.field, fault, str(error))) from error
        for name in sorted(instruction.fields):
            check_plain(name, said[name])
        return text


def ready_made_of(job: EditJob) -> ReadyMade:
    """Return the instructions that a job's rows may ask for: all shipped ones, those of its folder, and its own.

    Raises:
        RequestError: if the folder or the job's own can't be read.
    """
    own, folder = job.sources.instruction_name, job.sources.instructions
    try:
        instructions = {name: Instruction.load(name) for name in shipped()}
        if folder:
            instructions |= {file.stem: Instruction.load(str(file)) for file in _files_of(folder)}
        if own and own not in instructions:
            instructions[own] = Instruction.load(own)
    except InstructionError as error:
        raise RequestError(str(error)) from error
    return ReadyMade(instructions, own or None, job.sources.instruction_language)


def own_words(row: Row, instructions: Mapping[str, Instruction], known: Collection[Instruction]) -> list[str] | None:
    """Return what classifiers read of a row that is told the text of a ready-made instruction; None of other rows.

    What the row put into the text stands by itself: among the text's many words, what it names would hardly count.
    Known texts aren't read beside it: every row has them, and a CLIP that never saw such words may take them for
    anything.

    Args:
        row: whose prompt it is.
        instructions: by name.
        known: instructions whose texts were looked at by people: those that are shipped.
    """
    if row.instruction_name is None:
        return None
    instruction, values = instructions[row.instruction_name], row.instruction_values
    if row.prompt not in _texts_of(instruction, values):
        return None
    texts = {(one.en, one.zh) for one in known}
    put_in = [values[name] for name in sorted(instruction.fields)]
    return put_in if (instruction.en, instruction.zh) in texts else [row.prompt, *put_in]


def _texts_of(instruction: Instruction, values: Mapping[str, str]) -> list[str]:
    try:
        return [instruction.text(values, language) for language in ("en", "zh")]
    except InstructionValueError:  # the row has words of its own, and leaves a value out
        return []


def _files_of(folder: str) -> list[Path]:
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise RequestError(f"There is no folder of instructions {folder}: check the path.")
    files = sorted(place.glob("*.toml"))
    if not files:
        raise RequestError(f"The folder of instructions {folder} has no TOML file: name one that has, or none.")
    return files
