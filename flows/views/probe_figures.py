"""How `packshot probe` says what to expect of a probe."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from tasks.calibration.train_probe import TrainedProbe

TEXTS = ("concept", "answer")
NUMBERS = ("threshold", "prompts", "recall", "95 %", "safe", "false alarms", "95 %")


def show_probe(console: Console, trained: TrainedProbe, out: Path) -> None:
    """Show a row for each concept: recall and false alarms on prompts that decided nothing, and how to use it."""
    table = Table(pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for name in TEXTS + NUMBERS:
        table.add_column(name, justify="left" if name in TEXTS else "right", no_wrap=True)
    answers = {concept.name: concept.answer for concept in trained.probe.about.concepts}
    for one in trained.concepts:
        figures = one.figures
        recall = (f"{figures.recall:.1%}", _interval(figures.recall_interval))
        alarms = (f"{figures.false_positives:.1%}", _interval(figures.false_positives_interval))
        table.add_row(
            one.concept,
            answers[one.concept],
            f"{figures.threshold:.2f}",
            str(figures.unsafe),
            *recall,
            str(figures.safe),
            *alarms,
        )
    for line in (
        f"A probe of {trained.prompts} different prompts, tried on a quarter of them that decided nothing:",
        table,
        f'{out} is written. In a policy beside it: probe = "{out.name}"',
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=not isinstance(line, Table))


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"
