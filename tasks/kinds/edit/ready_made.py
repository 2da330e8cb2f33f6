"""Instructions with names: which ones a job's rows may ask for, and what each says of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safety.fidelity.instruction import Instruction, InstructionError, Language, shipped
from tasks.errors import RequestError
from tasks.kinds.edit.edit_job import EditJob
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
            sentence = f"There is no ready-made instruction {name[:60]!r}; there are {known}."
            raise RowError(Problem("instruction_name", RowFault.OUT_OF_RANGE, sentence))
        return self.instructions[name]

    def values_of(self, instruction: Instruction, values: Mapping[str, Any]) -> dict[str, str]:
        """Return what a row has for an instruction's text, by name; what it hasn't got is left out."""
        found = {name: values.get(name) for name in sorted(instruction.fields)}
        return {name: str(value).strip() for name, value in found.items() if value is not None}

    def text_of(self, instruction: Instruction, said: Mapping[str, str]) -> str:
        """Return what a model is told.

        Raises:
            RowError: if a value is missing, or too long.
        """
        try:
            return instruction.text(said, self.language)
        except InstructionError as error:
            missing = next((name for name in sorted(instruction.fields) if not said.get(name)), "instruction_name")
            raise RowError(Problem(missing, RowFault.EMPTY, str(error))) from error


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
    return ReadyMade(instructions, own, job.sources.instruction_language)


def _files_of(folder: str) -> list[Path]:
    files = sorted(Path(folder).expanduser().glob("*.toml"))
    if not files:
        raise RequestError(f"The folder of instructions {folder} has no TOML file: name one that has, or none.")
    return files
