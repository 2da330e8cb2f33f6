"""How `packshot calibrate --fidelity` says what it chose."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from safety.fidelity.limits import ChosenLimits
from safety.probes.calibration import percent, percents
from tasks.calibration.calibrate_fidelity import FidelityFiles


def show_limits(console: Console, chosen: ChosenLimits, files: FidelityFiles) -> None:
    """Show every limit, how all of them do together on what was held out, and where to look."""
    table = Table(
        title=f"limits of {chosen.before.name}", title_justify="left", title_style="bold", pad_edge=False, box=None
    )
    for column in ("measure", "reason", "limit", "review", "before", "found", "right refused"):
        table.add_column(column, justify="left" if column in ("measure", "reason") else "right", no_wrap=True)
    for one in chosen.limits:
        side = "above" if one.after.most is not None else "below"
        review = "" if one.after.review is None else f"{one.after.review:.4g}"
        table.add_row(
            one.measure,
            one.after.reason,
            f"{side} {one.after.limit:.4g}",
            review,
            f"{one.before.limit:.4g}",
            percent(one.figures.recall),
            percent(one.figures.false_positives),
        )
    console.print(table)
    console.print()
    for words, share in (
        ("wrong pairs found", chosen.found),
        ("wrong pairs rejected", chosen.rejected),
        ("right pairs refused", chosen.refused),
        ("right pairs left to a person", chosen.asked),
    ):
        console.print(f"{words:29} {percent(share.share)} ({percents(share.interval)}), {share.hits} of {share.of}")
    for remark in chosen.remarks:
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for name, place in (("instruction", files.instruction), ("page", files.page)):
        console.print(f"{name:12} {place}", markup=False, highlight=False, soft_wrap=True)
