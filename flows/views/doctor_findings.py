"""How `packshot doctor` says what it found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.finding import Finding, Status

COLOURS: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "bold red", "left out": "dim"}
NAME_WIDTH, STATUS_WIDTH = 15, 8  # of the longest of each: findings are shown as they come


def document(findings: Iterable[Finding], exit_code: int) -> dict[str, Any]:
    """Return the findings for machines, and what the command ends with."""
    return {
        "exit_code": exit_code,
        "findings": [
            {
                "name": one.name,
                "status": one.status,
                "found": one.found,
                "do": one.do,
                "fault": one.fault,
                **({"data": one.data} if one.data else {}),
            }
            for one in findings
        ],
    }


def show_findings(console: Console, findings: Iterable[Finding]) -> list[Finding]:
    """Show each finding as it comes, and how many there were of each status; give them back."""
    shown = []
    with console.status("looking"):
        for finding in findings:
            console.print(_line(finding))
            shown.append(finding)
    console.print()
    console.print(_sum(shown))
    return shown


def _line(finding: Finding) -> Table:
    colour = COLOURS[finding.status]
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=NAME_WIDTH, no_wrap=True)
    table.add_column(width=STATUS_WIDTH, no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_row(finding.name, Text(finding.status, colour), Text(finding.found, _dim(finding)))
    if finding.do:
        table.add_row("", "", Text(f"→ {finding.do}", colour))
    return table


def _dim(finding: Finding) -> str:
    return "dim" if finding.status == "left out" else ""


def _sum(findings: Sequence[Finding]) -> Text:
    counts = {status: sum(one.status == status for one in findings) for status in COLOURS}
    told = [Text(f"{count} {status}", COLOURS[status]) for status, count in counts.items() if count]
    return Text(", ").join(told)
