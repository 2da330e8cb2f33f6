"""The curves of a calibration as a picture: recall over the rate of false positives, for every concept."""

from __future__ import annotations

from math import log10

from safety.policy.policy import PROMPT_MATCH
from tasks.calibration.scoring import What
from tasks.calibration.thresholds import Calibration, Threshold
from tasks.reports.templates import templates

WIDTH, HEIGHT = 640, 400  # of the plot, units of the picture
LOWEST = 1e-4  # the rate at the left edge; what is lower is drawn there
RATES = (LOWEST, 1e-3, 1e-2, 1e-1, 1.0)  # that the axis names
COLOURS = ("#1a5fb4", "#b4540a", "#1f7a4d", "#a32035", "#6b3fa0", "#0e7c86", "#8a6d00", "#57606a")


def draw_curves(calibration: Calibration, what: What) -> str:
    """Return an SVG of the curves of prompts or of pictures, on the held-out examples; "" where there are none.

    The rate is drawn by its logarithm, because what a shop cares for lies between 0.01 % and a few per cent.
    """
    ones = [one for one in calibration.thresholds if one.what == what]
    if not ones:
        return ""
    curves = [
        {
            "name": one.name.replace("_", " "),
            "colour": COLOURS[at % len(COLOURS)],
            "dashed": one.name == PROMPT_MATCH or at >= len(COLOURS),
            "path": _path(one),
            "x": _x(one.figures.false_positives),
            "y": _y(one.figures.recall),
        }
        for at, one in enumerate(ones)
    ]
    return (
        templates("tasks.calibration")
        .get_template("roc.svg.j2")
        .render(
            what=what,
            curves=curves,
            width=WIDTH,
            height=HEIGHT,
            asked=_x(calibration.false_positives),
            rates=[
                (_x(rate), f"{'≤ ' if rate == LOWEST else ''}{100 * rate:g} %")
                for rate in (LOWEST, 1e-3, 1e-2, 1e-1, 1.0)
            ],
            recalls=[(_y(share / 5), f"{20 * share} %") for share in range(6)],
        )
    )


def _path(one: Threshold) -> str:
    """Return the curve in steps, as it is: between two scores there is nothing to know."""
    last: tuple[float, float] | None = None
    steps: list[str] = []
    for rate, recall in one.curve:
        point = (_x(rate), _y(recall))
        if point != last:
            steps.append(f"H{point[0]}V{point[1]}" if steps else f"M{point[0]} {point[1]}")
        last = point
    return "".join(steps)


def _x(rate: float) -> float:
    return round(WIDTH * (1 - log10(max(rate, LOWEST)) / log10(LOWEST)), 1)


def _y(recall: float) -> float:
    return round(HEIGHT * (1 - recall), 1)
