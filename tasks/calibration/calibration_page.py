"""The page about a calibration: figures, curves, and the worst mistakes, in one file that needs no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from safety.policy.policy import PROMPT_MATCH
from safety.probes.calibration import percent, percents
from tasks.calibration.examples import Examples
from tasks.calibration.scoring import What, read_picture
from tasks.calibration.thresholds import Calibration, Mistake, Threshold
from tasks.errors import RequestError
from tasks.reports.templates import templates
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources

THUMBNAIL = 192  # pixels, the longer side
SHOWN = 400  # characters of a prompt


@dataclass(frozen=True)
class Seen:
    """What the page shows of an example."""

    prompt: str | None
    thumbnail: str | None  # a data: address


@dataclass(frozen=True)
class MistakeCard:
    """A mistake."""

    row: int
    score: float
    thumbnail: str | None
    prompt: str | None


@dataclass(frozen=True)
class Sheet:
    """The mistakes of one kind."""

    title: str
    found: int  # all of them
    cards: tuple[MistakeCard, ...]


def write_page(
    file: Path,
    calibration: Calibration,
    policy: str,
    curves: Mapping[What, str],
    examples: Examples,
    sources: Sources,
    decoder: Decoder,
) -> None:
    """Write the page; examples that are shown are read again.

    Raises:
        RequestError: if one can't be, or the page can't be written.
    """
    seen = _look(calibration, examples, sources, decoder)
    page = (
        templates("tasks.calibration")
        .get_template("calibration.html.j2")
        .render(
            calibration=calibration,
            policy=policy,
            percent=percent,
            percents=percents,
            examples=Path(examples.name).name,
            # Drawn by a template of ours that escapes what it is given.
            curves={what: Markup(svg) for what, svg in curves.items() if svg},
            sheets=[sheet for one in calibration.thresholds for sheet in _sheets(one, seen) if sheet.cards],
        )
    )
    try:
        file.write_text(page, "utf-8")
    except OSError as error:
        raise RequestError(f"The page {file} can't be written: {error.strerror}.") from None


def _look(calibration: Calibration, examples: Examples, sources: Sources, decoder: Decoder) -> dict[int, Seen]:
    """Return the prompts and thumbnails of all that is shown, by row."""
    pictures, prompts = set(), set()
    for one in calibration.thresholds:
        for mistake in (*one.missed, *one.alarms):
            prompts.add(mistake.prompt_row)
            if one.what == "picture":
                pictures.add(mistake.row)
    last = max(pictures | prompts, default=-1)
    seen: dict[int, Seen] = {}
    for example in examples if last >= 0 else ():
        if example.row in pictures | prompts:
            shown = example.image is not None and example.row in pictures
            picture = _thumbnail(read_picture(example, sources, decoder)) if shown else None
            seen[example.row] = Seen(example.prompt and example.prompt[:SHOWN], picture)
        if example.row == last:
            break
    return seen


def _sheets(one: Threshold, seen: Mapping[int, Seen]) -> Iterable[Sheet]:
    name = one.name.replace("_", " ")
    missed, alarms = f"{name}: not found in {one.what}s", f"{name}: safe {one.what}s that are stopped"
    if one.name == PROMPT_MATCH:
        missed, alarms = "beside another picture's prompt, and not found", "beside their own prompt, and stopped"
    figures = one.figures
    yield Sheet(missed, figures.unsafe - figures.found, tuple(_card(m, one, seen) for m in one.missed))
    yield Sheet(alarms, figures.alarms, tuple(_card(m, one, seen) for m in one.alarms))


def _card(mistake: Mistake, one: Threshold, seen: Mapping[int, Seen]) -> MistakeCard:
    picture = seen[mistake.row].thumbnail if one.what == "picture" else None
    return MistakeCard(mistake.row, mistake.score, picture, seen[mistake.prompt_row].prompt)


def _thumbnail(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
