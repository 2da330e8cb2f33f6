"""How `packshot calibrate` says what it chose."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from safety.probes.calibration import percent
from tasks.calibration.thresholds import Calibration, Written


def show_calibration(console: Console, calibration: Calibration, written: Written) -> None:
    """Show every threshold with its figures on what was held out, what isn't sure, and where to look."""
    rate = percent(calibration.false_positives)
    table = Table(
        title=f"{calibration.policy} for {calibration.clip}, at {rate} of false positives",
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        box=None,
    )
    for column in ("in", "concept", "threshold", "found", "95 %", "safe stopped", "95 %"):
        table.add_column(column, justify="left" if column in ("in", "concept") else "right", no_wrap=True)
    for one in calibration.thresholds:
        figures = one.figures
        table.add_row(
            f"{one.what}s",
            one.name,
            f"{one.value:.6g}",
            *_share(figures.recall, figures.recall_interval),
            *_share(figures.false_positives, figures.false_positives_interval),
        )
    for stopped in calibration.stopped:
        share = _share(stopped.share, stopped.interval)
        table.add_row(f"{stopped.what}s", Text("any of them", "italic"), *[""] * 3, *share)
    console.print(table)
    console.print()
    for remark in calibration.remarks:
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for name, place in (("policy", written.policy), ("page", written.page), *(("curves", at) for at in written.curves)):
        console.print(f"{name:10} {place}", markup=False, highlight=False, soft_wrap=True)


def _share(share: float, interval: tuple[float, float]) -> tuple[str, str]:
    low, high = (100 * end for end in interval)
    return f"{100 * share:.2f} %", f"{low:.1f}–{high:.1f}"
