"""An instruction's limits, chosen by pairs that people labelled: kept, or changed and in which way.

found = choose_limits(Instruction.load("scene"), pairs, refused=0.01, asked=0.05, held_out=0.5)
found.instruction                # the same with other limits
found.refused, found.found       # on the pairs that no limit was chosen by, with intervals
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safety.fidelity.instruction import REASONS, Instruction, MeasureLimit
from safety.fidelity.measure_names import MEASURES, PREFIX
from safety.probes.calibration import Figures, TooFew, choose, percent, safe_needed, wilson
from safety.probes.held_out import is_held_out

LEAST_WRONG = 5  # pairs on either side: with fewer, what a limit finds is a guess
WORST = 12  # mistakes of a kind that are kept to be looked at


@dataclass(frozen=True)
class LabelledPair:
    """What was measured of a pair, and what a person said of it."""

    row: int  # of the file that it came from
    key: str  # of its source: pairs of one source are held out together
    wrong: frozenset[str]  # of `REASONS`; none where the product was kept and what was asked for is there
    scores: dict[str, float]  # with the prefix


@dataclass(frozen=True)
class Share:
    """How many of some pairs."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        """The share of them."""
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson interval of the share, at 95 %."""
        return wilson(self.hits, self.of)


@dataclass(frozen=True)
class ChosenLimit:
    """A check with the limits that were chosen, and how it does alone on what was held out."""

    measure: str
    before: MeasureLimit
    after: MeasureLimit
    figures: Figures  # of the limit itself: wrong pairs that it finds, and right ones that it refuses


@dataclass(frozen=True)
class ChosenLimits:
    """What became of an instruction."""

    before: Instruction
    instruction: Instruction
    limits: tuple[ChosenLimit, ...]
    refused: Share  # of the right pairs that were held out: rejected, by any check
    asked: Share  # of them: left to a person
    found: Share  # of the wrong ones: rejected, or left to a person
    rejected: Share  # of them: rejected
    missed: tuple[LabelledPair, ...]  # wrong ones that were held out and are allowed
    alarms: tuple[LabelledPair, ...]  # right ones that are rejected
    remarks: tuple[str, ...]  # sentences


def choose_limits(
    instruction: Instruction, pairs: Sequence[LabelledPair], *, refused: float, asked: float, held_out: float
) -> ChosenLimits:
    """Choose every limit of an instruction by half of some pairs, and judge the other half by them.

    Each limit finds the most among the wrong pairs of its reason while it refuses no more than a rate of right ones
    still to come, with 95 % confidence: see `safety.probes.calibration.choose`.

    Args:
        instruction: whose checks they are; measures and reasons stay.
        pairs: right and wrong ones.
        refused: the rate of right pairs that each limit may refuse.
        asked: the rate of them that each may leave to a person, or refuse.
        held_out: the share of the pairs that are judged, and nothing is chosen by.

    Raises:
        TooFew: if there are too few right pairs to promise the rates, or too few to judge; the message is a sentence.
    """
    chosen_by = [pair for pair in pairs if not is_held_out(pair.key, held_out)]
    judged_by = [pair for pair in pairs if is_held_out(pair.key, held_out)]
    limits: list[ChosenLimit] = []
    remarks: list[str] = []
    for name, check in instruction.checks.items():
        sides = [_sides(name, check, some) for some in (chosen_by, judged_by)]
        fewest = min(len(wrong) for _, wrong in sides)
        if fewest < LEAST_WRONG:
            remarks.append(_left_alone(name, check, fewest, any(PREFIX + name in pair.scores for pair in pairs)))
            continue
        limits.append(_chosen(name, check, sides, refused, asked))
    if not limits:
        raise TooFew(f"No limit of {instruction.name} can be chosen. {remarks[0]}")
    after = instruction.model_copy(update={"checks": instruction.checks | {one.measure: one.after for one in limits}})
    return _judged(instruction, after, tuple(limits), judged_by, tuple(remarks))


def _left_alone(name: str, check: MeasureLimit, fewest: int, was_measured: bool) -> str:
    words = MEASURES[name].words
    begins = f"{words[:1].upper()}{words[1:]} keeps its limits"
    if not was_measured:
        return f"{begins}: it wasn't measured of any pair."
    return (
        f"{begins}: of pairs labelled {check.reason} there are {fewest} to choose or to judge them by, where "
        f"{LEAST_WRONG} are needed."
    )


def _sides(name: str, check: MeasureLimit, pairs: Sequence[LabelledPair]) -> tuple[np.ndarray, np.ndarray]:
    """Return what a check measured of right pairs, and of those that are wrong by its reason: high where it's worse."""
    sign, measured = (1.0 if check.most is not None else -1.0), PREFIX + name
    known = [pair for pair in pairs if measured in pair.scores]
    right = [sign * pair.scores[measured] for pair in known if not pair.wrong]
    wrong = [sign * pair.scores[measured] for pair in known if check.reason in pair.wrong]
    return np.array(right), np.array(wrong)


def _chosen(
    name: str, check: MeasureLimit, sides: Sequence[tuple[np.ndarray, np.ndarray]], refused: float, asked: float
) -> ChosenLimit:
    (right, wrong), (held_right, held_wrong) = sides
    sign = 1.0 if check.most is not None else -1.0
    for rate in (refused, max(refused, asked)):
        if len(right) < (needed := safe_needed(rate)):
            raise TooFew(
                f"{len(right)} right pairs can't promise that {percent(rate)} of them are refused: to choose a limit "
                f"of {name} it takes {needed}, beside those that are held out."
            )
    limit, review = (choose(right, wrong, false_positives=rate).threshold for rate in (refused, max(refused, asked)))
    field = "most" if check.most is not None else "least"
    after = check.model_copy(update={field: sign * limit, "review": sign * min(limit, review)})
    beyond = [int((some > limit).sum()) for some in (held_wrong, held_right)]
    if not len(held_right):
        raise TooFew("No right pair was held out: label more of them.")
    return ChosenLimit(name, check, after, Figures(limit, len(held_wrong), beyond[0], len(held_right), beyond[1]))


def _judged(
    before: Instruction,
    after: Instruction,
    limits: tuple[ChosenLimit, ...],
    pairs: Sequence[LabelledPair],
    remarks: tuple[str, ...],
) -> ChosenLimits:
    verdicts = [(pair, after.judge(pair.scores)) for pair in pairs]
    right = [(pair, verdict) for pair, verdict in verdicts if not pair.wrong]
    wrong = [(pair, verdict) for pair, verdict in verdicts if pair.wrong]
    missed = sorted((pair for pair, verdict in wrong if verdict.allowed), key=lambda pair: _overshoot(after, pair))
    alarms = [pair for pair, verdict in right if not verdict.allowed and not verdict.waits]
    alarms.sort(key=lambda pair: -_overshoot(after, pair))
    return ChosenLimits(
        before,
        after,
        limits,
        refused=Share(len(alarms), len(right)),
        asked=Share(sum(verdict.waits for _, verdict in right), len(right)),
        found=Share(len(wrong) - len(missed), len(wrong)),
        rejected=Share(sum(not verdict.allowed and not verdict.waits for _, verdict in wrong), len(wrong)),
        missed=tuple(missed[:WORST]),
        alarms=tuple(alarms[:WORST]),
        remarks=remarks,
    )


def _overshoot(instruction: Instruction, pair: LabelledPair) -> float:
    """Return how far a pair is beyond the limit that it is furthest beyond, as a share of the limit; below 0 inside."""
    found = []
    for name, check in instruction.checks.items():
        if (value := pair.scores.get(PREFIX + name)) is not None:
            beyond = value - check.limit if check.most is not None else check.limit - value
            found.append(beyond / max(abs(check.limit), 1e-6))
    return max(found, default=0.0)


def reasons_of(label: str) -> frozenset[str]:
    """Return what a label says is wrong: nothing for "kept"; "changed" is short for product_changed.

    Raises:
        ValueError: if it says anything else; the message is a sentence.
    """
    names = {name.strip() for name in label.replace(",", ";").split(";")} - {""}
    names = {"product_changed" if name == "changed" else name for name in names}
    if unknown := sorted(names - {"kept", *REASONS}):
        raise ValueError(f"is labelled {unknown[0][:80]!r}; labels are kept, changed, {', '.join(REASONS)}.")
    if not names:
        raise ValueError(f"has no label; labels are kept, changed, {', '.join(REASONS)}.")
    if "kept" in names and len(names) > 1:
        raise ValueError(f"is labelled both kept and {sorted(names - {'kept'})[0]}.")
    return frozenset(names - {"kept"})
