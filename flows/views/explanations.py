"""How `packshot policy check` says why a prompt or a picture is allowed or refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from safety.policy.explanation import Explanation, Listed, Nearness
from safety.policy.policy import Policy

SHOWN = 300  # characters of a text on the terminal


def document(policy: Policy, explanations: Iterable[Explanation]) -> dict[str, Any]:
    """Return the explanations for machines."""
    checks = [
        {
            "what": one.what,
            "allowed": one.verdict.allowed,
            "reason": one.verdict.reason,
            "message": one.verdict.message,
            "read_as": list(one.read_as),
            "listed": [asdict(entry) for entry in one.listed],
            "concepts": [{**asdict(near), "room": near.room} for near in one.near],
            "unasked": one.unasked,
            "prompt_match": one.match and {"score": one.match[0], "least": one.match[1]},
        }
        for one in explanations
    ]
    allowed = all(check["allowed"] for check in checks)
    return {"policy": policy.name, "digest": policy.digest, "allowed": allowed, "checks": checks}


def show_explanation(console: Console, explanation: Explanation) -> None:
    """Show the verdict, how the text was read, what of it is listed, and how near it comes to each concept."""
    verdict = explanation.verdict
    said = Text(f"The {explanation.what} is allowed.", "bold green")
    if verdict.waits:
        said = Text.assemble((f"The {explanation.what} waits for review.", "bold yellow"), f" {verdict.message}")
    elif not verdict.allowed:
        said = Text.assemble(
            (f"The {explanation.what} is refused: {verdict.reason}.", "bold red"), f" {verdict.message}"
        )
    console.print(said)
    rows = Table.grid(padding=(0, 2))
    for name, texts in (("read as", explanation.read_as[:1]), ("or as", explanation.read_as[1:])):
        for text in texts:
            rows.add_row(name, Text(text if len(text) <= SHOWN else f"{text[:SHOWN]} …"))
    for entry in explanation.listed:
        rows.add_row("allowed by" if entry.exception else "listed", _entry(entry))
    if explanation.match is not None:
        rows.add_row("fits its prompt", _match(*explanation.match))
    if rows.row_count:
        console.print(rows)
    if explanation.near:
        console.print(_near(explanation.near))
    if explanation.unasked:
        console.print(explanation.unasked, markup=False, highlight=False, soft_wrap=True)
    console.print()


def _entry(entry: Listed) -> Text:
    place = f"{entry.term} ({entry.list}, {entry.language})" if entry.list else f"{entry.term} ({entry.language})"
    written = "" if entry.written == entry.term else f", written “{entry.written}”"
    return Text(f"{place}{written}", "green" if entry.exception else "red")


def _match(score: float, least: float | None) -> Text:
    if least is None:
        return Text(f"{score:.3f}; the policy has no min_prompt_match")
    return Text(f"{score:.3f}, at least {least:.3f} is wanted", "green" if score >= least else "red")


def _near(near: Iterable[Nearness]) -> Table:
    """Return the concepts that are looked for here."""
    table = Table(pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for column in ("concept", "score", "limit", "", "nearest to", "rather than"):
        table.add_column(column, justify="right" if column in ("score", "limit") else "left")
    for one in near:
        if one.limit is None or one.room is None:
            continue
        how_near = Text(f"{one.room:.3f} below", "green") if one.room > 0 else Text(f"over by {-one.room:.3f}", "red")
        cells = (f"{one.score:.3f}", f"{one.limit:.3f}", how_near, Text(one.phrase), Text(one.exempt or ""))
        table.add_row(one.concept, *cells)
    return table
