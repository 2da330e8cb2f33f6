"""Calibrate the fidelity gate: labelled pairs and an instruction in, the same instruction with other limits out."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomlkit
from PIL import Image

from safety.fidelity.instruction import Instruction, InstructionError, file_of
from safety.fidelity.limits import ChosenLimits, LabelledPair, choose_limits
from safety.fidelity.measure_names import MEASURES
from safety.pictures.layers import WHITE, over
from safety.probes.calibration import TooFew, percent, percents
from tasks.calibration.labelled_pairs import PairsFile, measured, open_pairs, pixels_of
from tasks.errors import RequestError
from tasks.job import Job
from tasks.kinds.job_originals import intake_of
from tasks.reports.templates import templates
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources

ASKED = 5.0  # times as many right pairs as are refused may be left to a person
DECODERS = 2
THUMBNAIL = 192  # pixels, the longer side
NOTE = "# Calibrated by packshot"  # begins the file's first line


@dataclass(frozen=True)
class FidelityFiles:
    """Where everything lies."""

    instruction: Path
    page: Path


@dataclass(frozen=True)
class PairCard:
    """A mistake on the page."""

    row: int
    source: str  # a data: address
    result: str
    words: str


def calibrate_fidelity(
    name: str, base: str, job: Job, out: Path, *, refused: float, held_out: float
) -> tuple[ChosenLimits, FidelityFiles]:
    """Choose an instruction's limits by a file of labelled pairs, and write the instruction and a page of mistakes.

    Args:
        name: of the file of pairs.
        base: the instruction, by its name or its path.
        job: says what pictures may be read.
        out: the new instruction; the page lies beside it.
        refused: the rate of right pairs that each limit may refuse.
        held_out: the share of the pairs that the figures are of.

    Raises:
        RequestError: if the pairs or the instruction can't be used, or there are too few pairs.
    """
    try:
        instruction = Instruction.load(base)
    except InstructionError as error:
        raise RequestError(str(error)) from error
    _check_place(out, base)
    pairs = open_pairs(name, instruction)
    intake, page = intake_of(name, job.sources), out.with_suffix(".html")
    sources = intake.sources()
    with intake.decoder(DECODERS) as decoder:
        scored = measured(pairs, instruction, sources, decoder)
        try:
            chosen = choose_limits(
                instruction, scored, refused=refused, asked=min(ASKED * refused, 0.5), held_out=held_out
            )
        except TooFew as error:
            raise RequestError(f"Too few pairs in {name}: {error}") from None
        _write(out, _with_limits(base, chosen, f"by {Path(name).name}, at {percent(refused)} of right pairs refused"))
        _write(page, _page(chosen, out.name, pairs, refused, held_out, sources, decoder))
    return chosen, FidelityFiles(out, page)


def _with_limits(base: str, chosen: ChosenLimits, note: str) -> str:
    """Return the text of the base's file with other limits, and its comments."""
    document = tomlkit.parse(file_of(base).read_text("utf-8-sig"))
    checks = document["checks"]
    for one in chosen.limits:
        check = checks[one.measure]
        for field in ("most", "least", "review"):
            value = getattr(one.after, field)
            if value is not None:
                check[field] = value
    lines = tomlkit.dumps(document).splitlines(keepends=True)
    rest = lines[1:] if lines and lines[0].startswith(NOTE) else lines
    return f"{NOTE} {note}\n{''.join(rest)}"


def _page(
    chosen: ChosenLimits,
    name: str,
    pairs: PairsFile,
    refused: float,
    held_out: float,
    sources: Sources,
    decoder: Decoder,
) -> str:
    cards = _cards(chosen, pairs, sources, decoder)
    sheets = [
        ("wrong pairs that are let through", chosen.found.of - chosen.found.hits, chosen.missed),
        ("right pairs that are refused", chosen.refused.hits, chosen.alarms),
    ]
    return (
        templates("tasks.calibration")
        .get_template("fidelity.html.j2")
        .render(
            chosen=chosen,
            name=name,
            pairs=Path(pairs.name).name,
            refused=refused,
            held_out=held_out,
            measures=MEASURES,
            percent=percent,
            percents=percents,
            sheets=[(title, found, [cards[pair.row] for pair in some]) for title, found, some in sheets if some],
        )
    )


def _cards(chosen: ChosenLimits, pairs: PairsFile, sources: Sources, decoder: Decoder) -> dict[int, PairCard]:
    """Return what the page shows of its mistakes, by row: their pictures are read again."""
    shown = {pair.row: pair for pair in (*chosen.missed, *chosen.alarms)}
    cards = {}
    for row in pairs if shown else ():
        if row.row in shown:
            source, result = (_thumbnail(pixels_of(row, name, sources, decoder)) for name in ("source", "result"))
            cards[row.row] = PairCard(row.row, source, result, _words(chosen.instruction, shown[row.row]))
    return cards


def _words(instruction: Instruction, pair: LabelledPair) -> str:
    said = instruction.judge(pair.scores).message
    return said or f"Labelled {', '.join(sorted(pair.wrong))}, and within every limit."


def _thumbnail(pixels: np.ndarray) -> str:
    image = Image.fromarray(over(pixels, WHITE))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _check_place(out: Path, base: str) -> None:
    if out.suffix != ".toml":
        raise RequestError(f"The new instruction {out} must end in .toml.")
    if not out.parent.is_dir():
        raise RequestError(f"There is no folder {out.parent} for the new instruction.")
    if out.exists() and out.samefile(file_of(base)):
        raise RequestError(f"The new instruction would replace its own base {base}: give another --out.")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise RequestError(f"The file {file} can't be written: {error.strerror}.") from None
