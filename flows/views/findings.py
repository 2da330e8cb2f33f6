"""What `packshot models verify` says."""

from __future__ import annotations

from rich.console import Console
from rich.filesize import decimal

from models.checkpoints.integrity import Findings


def show_findings(console: Console, name: str, findings: Findings) -> None:
    """Print a sentence about a checkpoint that is whole, or one for each thing that is wrong, with its remedy."""
    if not findings.faults:
        _print(console, f"{name} is whole: {findings.files} files, {decimal(findings.size)}. {_compared(findings)}")
        return
    things = "thing" if len(findings.faults) == 1 else "things"
    _print(console, f"{name} has {len(findings.faults)} {things} wrong:", "bold red")
    for fault in findings.faults:
        _print(console, f"  {fault}", "red")
    inventory = findings.inventory
    again = "packshot models pull"
    if inventory and inventory.revision:
        again += f" {inventory.origin} --revision {inventory.revision} --to {name}"
    _print(console, f"Remove what is wrong and run {again}: it fetches what isn't there.")


def _compared(findings: Findings) -> str:
    safe = "Safetensors only, no code of its own."
    if findings.inventory:
        return f"Every content is that of {findings.inventory}. {safe}"
    if findings.proven:
        return f"The contents of {findings.proven} are those that the hub's cache names. {safe}"
    return f"There is no inventory to compare contents with; headers and indexes agree. {safe}"


def _print(console: Console, sentence: str, style: str | None = None) -> None:
    console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)
