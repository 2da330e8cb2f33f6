"""The report: one HTML page that needs no network, for the people who look at the pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from safety.fidelity.measure_names import MEASURES, PREFIX
from safety.verdict import Reason, ScoreLimit
from tasks.catalogue.catalogue import outcomes_in
from tasks.outcome import Status
from tasks.reports.summary import Summary
from tasks.reports.templates import templates
from tasks.results.encoding import decode_rgba
from tasks.results.layer_shelf import layer_names
from tasks.results.master import PSD, SOURCE, Masters
from tasks.stores.store import Store

SHOWN = {Status.DONE: 60, Status.REJECTED: 36, Status.BLOCKED: 36, Status.FAILED: 36}  # cards of each kind
WAITING_SHOWN = 240  # those furthest over a limit
THUMBNAIL = 192  # pixels, the longer side
PAIRED, REFERENCE = 320, 96  # the same of a source and its result, which a person compares; and of references
LOOKED_AT = 2_000  # refused rows among which the worst are found
UNFAITHFUL = (Reason.PRODUCT_CHANGED, Reason.NOT_CHANGED, Reason.MOVED)  # with a measure and its limit
NARROWEST = 88  # pixels of a column in a strip: a layer's name fits below it
READING_THREADS = 16


@dataclass(frozen=True)
class Figure:
    """One of the pictures side by side in a strip."""

    name: str
    thumbnail: str | None  # a data: address; None where the picture is gone
    link: str


@dataclass(frozen=True)
class Strip:
    """A row's source, its composite, and its layers from the bottom to the top."""

    figures: tuple[Figure, ...]
    column: int  # pixels a figure is wide where there is room: as wide as its thumbnail
    psd: str | None  # the way to it, None where there is none
    likeness: float | None  # of the composite to the source, in dB

    @property
    def layers(self) -> int:
        return len(self.figures) - 2


@dataclass(frozen=True)
class SideBySide:
    """A row's source and its result side by side, with the references that it was made with."""

    figures: tuple[Figure, ...]  # the source and the result
    references: tuple[Figure, ...]


@dataclass(frozen=True)
class MeasuredLine:
    """What was measured of a result beside its source, in a person's words."""

    what: str
    unit: str
    value: str
    limit: str
    asks: str  # where a person is asked; empty where nobody is
    state: Literal["within", "asks", "beyond"]


@dataclass(frozen=True)
class RowCard:
    """A row as the page shows it."""

    id: str
    status: str
    reason: str | None
    message: str | None
    prompt: str  # or the caption of a source picture
    thumbnail: str | None  # a data: address
    strip: Strip | None  # instead of a thumbnail, of a row with layers
    pair: SideBySide | None  # instead of a thumbnail, of a row that was edited
    measures: tuple[MeasuredLine, ...]  # of a row that was compared with its source, the furthest beyond first
    size: str | None
    seed: int | None
    profile: str | None
    link: str | None
    asks: tuple[tuple[str, float], ...]  # of a row that waits: the concepts, and how far each is over its limit

    @property
    def concepts(self) -> tuple[tuple[str, float], ...]:
        """What asks; nothing where a measure does, of which the message says more."""
        return () if any(name.startswith(PREFIX) for name, _ in self.asks) else self.asks


def write_report(store: Store, path: str, rows: pa.Table, summary: Summary) -> None:
    """Write the page about these rows of the catalogue."""
    page = render_report(store, rows, summary, up="../" * path.count("/"))
    store.overwrite(path, page.encode(), content_type="text/html; charset=utf-8")


def render_report(store: Store, mine: pa.Table, summary: Summary, *, up: str) -> str:
    """Return the page as HTML: counts, causes, and a contact sheet with the reason under each refused picture.

    `up` is the way from the page to the top of the store, `../../`, so that a store that was copied still shows its
    pictures.
    """
    sections = []
    waits = pc.fill_null(pc.equal(mine.column("reason"), Reason.REVIEW), False)
    waiting, ended = mine.filter(waits), mine.filter(pc.invert(waits))
    parts = [("Waiting for review", waiting.num_rows, _furthest(outcomes_in(waiting))[:WAITING_SHOWN])]
    for status in (Status.DONE, Status.REJECTED, Status.BLOCKED, Status.FAILED):
        rows = ended.filter(pc.equal(ended.column("status"), status))
        shown = _worst(rows, SHOWN[status]) if status == Status.REJECTED else outcomes_in(_spread(rows, SHOWN[status]))
        parts.append((status.capitalize(), rows.num_rows, shown))
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for title, count, shown in parts:
            cards = list(pool.map(lambda row: _card(store, row, up), shown))
            sections.append({"title": title, "rows": count, "cards": cards})
    return templates("tasks.reports").get_template("report.html.j2").render(summary=summary, sections=sections)


def _furthest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that wait, the one furthest over a limit first."""
    return sorted(rows, key=lambda row: -max((over for _, over in row["asks"] or ()), default=0.0))


def _worst(rows: pa.Table, most: int) -> list[dict[str, Any]]:
    """Return at most so many refused rows: those furthest beyond a limit first, and of the others some of each kind."""
    limited = pc.is_in(rows.column("reason"), value_set=pa.array(UNFAITHFUL, pa.string()))
    others = rows.filter(pc.invert(limited))
    measured = outcomes_in(_spread(rows.filter(limited), LOOKED_AT))
    worst = sorted(measured, key=lambda row: -_overshoot(row))[: max(most - others.num_rows, most // 2)]
    return worst + outcomes_in(_spread(others, most - len(worst)))


def _overshoot(row: dict[str, Any]) -> float:
    scores = dict(row["scores"] or ())
    limits = ((name, ScoreLimit(**limit)) for name, limit in row["limits"] or ())
    return max((limit.overshoot(scores[name]) for name, limit in limits if name in scores), default=0.0)


def _spread(rows: pa.Table, most: int) -> pa.Table:
    """Return at most so many rows, taken evenly from all of them."""
    if rows.num_rows <= most:
        return rows
    return rows.take(pa.array([index * rows.num_rows // most for index in range(most)]))


def _card(store: Store, row: dict[str, Any], up: str) -> RowCard:
    layered, edited = bool(row["uri"] and row["layer_uris"]), bool(row["uri"] and row["source_uris"])
    return RowCard(
        id=row["id"],
        status=row["status"],
        reason=row["reason"],
        message=row["message"],
        prompt=row["caption"] or row["prompt"],
        thumbnail=_thumbnail(store, _path(store, row["uri"])) if row["uri"] and not layered and not edited else None,
        strip=_strip(store, row, up) if layered else None,
        pair=_pair(store, row, up) if edited else None,
        measures=tuple(_measured(row)),
        size=f"{row['width']} × {row['height']}" if row["width"] else None,
        seed=row["seed"] if row["key"] else None,
        profile=row["profile"] or None,
        link=up + _path(store, row["uri"]) if row["uri"] else None,
        asks=tuple(sorted((row["asks"] or ()) if row["reason"] == Reason.REVIEW else (), key=lambda one: -one[1])),
    )


def _strip(store: Store, row: dict[str, Any], up: str) -> Strip:
    """Return a row's source and PSD beside its layers; those from before masters lie in the composite's folder."""
    folder = _path(store, row["uri"].rpartition("/")[0])
    names = layer_names(len(row["layer_uris"]))
    try:
        master = Masters(store).find(row["key"])
    except ValueError:
        master = None
    parts = {name: part.path for name, part in master.parts.items()} if master else {}
    pictures = [("source", parts.get(SOURCE, f"{folder}/{SOURCE}")), ("composite", _path(store, row["uri"]))]
    pictures += zip(names, [_path(store, uri) for uri in row["layer_uris"]], strict=True)
    psd = f"{folder}/{PSD}" if row["status"] == Status.DONE else parts.get(PSD)
    return Strip(
        figures=tuple(Figure(name, _thumbnail(store, path), up + path) for name, path in pictures),
        column=max(NARROWEST, round(THUMBNAIL * min(1, row["width"] / row["height"]))),
        psd=up + psd if psd and store.exists(psd) else None,
        likeness=dict(row["scores"] or ()).get("layers_psnr"),
    )


def _pair(store: Store, row: dict[str, Any], up: str) -> SideBySide:
    """Return what a row was edited from beside what came of it."""
    source, *references = [_path(store, uri) for uri in row["source_uris"]]
    named = [("source", source, PAIRED), ("result", _path(store, row["uri"]), PAIRED)]
    named += [(f"picture {number}", path, REFERENCE) for number, path in enumerate(references, 2)]
    figures = [Figure(name, _thumbnail(store, path, side), up + path) for name, path, side in named]
    return SideBySide(tuple(figures[:2]), tuple(figures[2:]))


def _measured(row: dict[str, Any]) -> Iterator[MeasuredLine]:
    """Give what was measured of a row by which limits, the furthest beyond one first."""
    scores = dict(row["scores"] or ())
    known = {name for name in scores if name.removeprefix(PREFIX) in MEASURES}
    limits = [(name, ScoreLimit(**limit)) for name, limit in row["limits"] or () if name in known]
    for name, limit in sorted(limits, key=lambda one: -one[1].overshoot(scores[one[0]])):
        measure = MEASURES[name.removeprefix(PREFIX)]
        side, past, at = ("at most", "above", limit.most) if limit.least is None else ("at least", "below", limit.least)
        yield MeasuredLine(
            what=measure.words.rstrip(","),
            unit=measure.unit,
            value=measure.number(scores[name]),
            limit=f"{side} {measure.number(at or 0.0)}",
            asks="" if limit.review is None else f"{past} {measure.number(limit.review)}",
            state=limit.finds(scores[name]),
        )


def _path(store: Store, uri: str) -> str:
    """Return where an object of this store lies in it."""
    return uri.removeprefix(store.uri).lstrip("/")


def _thumbnail(store: Store, path: str, side: int = THUMBNAIL) -> str | None:
    read = store.read(path)
    if read is None:
        return None
    try:
        image = Image.fromarray(decode_rgba(read[0]), "RGBA")
    except ValueError:
        return None
    image.thumbnail((side, side))
    opaque = image.getchannel("A").getextrema() == (255, 255)
    buffer = io.BytesIO()
    if opaque:
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    else:
        image.save(buffer, "WEBP", quality=85)
    return f"data:image/{'jpeg' if opaque else 'webp'};base64," + base64.b64encode(buffer.getvalue()).decode()
