import numpy as np
import pytest

from safety.fidelity.instruction import Instruction, MeasureLimit
from safety.fidelity.limits import ChosenLimits, LabelledPair, choose_limits, reasons_of
from safety.fidelity.measure_names import PREFIX
from safety.probes.calibration import TooFew

INSTRUCTION = Instruction(
    name="mine",
    en="Do it.",
    zh="去做。",
    checks={
        "shift": MeasureLimit(reason="moved", most=0.5, review=0.4),
        "outlines": MeasureLimit(reason="product_changed", least=0.1, review=0.2),
    },
)
REFUSED, ASKED = 0.05, 0.15


def pairs(right: int = 600, wrong: int = 60, moved: int = 60) -> list[LabelledPair]:
    """Right pairs keep to a shift of 0.02 and to outlines of 0.9; wrong ones don't, in one of the two."""
    generator = np.random.default_rng(1)

    def pair(row: int, wrong: str, shift: float, outlines: float) -> LabelledPair:
        scores = {
            f"{PREFIX}shift": abs(generator.normal(shift, 0.005)),
            f"{PREFIX}outlines": min(1.0, generator.normal(outlines, 0.02)),
        }
        return LabelledPair(row, f"{row:04d}", reasons_of(wrong), scores)

    kinds = [("kept", 0.01, 0.92)] * right + [("changed", 0.01, 0.5)] * wrong + [("moved", 0.1, 0.9)] * moved
    return [pair(row, *kind) for row, kind in enumerate(kinds)]


def chosen(some: list[LabelledPair]) -> ChosenLimits:
    return choose_limits(INSTRUCTION, some, refused=REFUSED, asked=ASKED, held_out=0.5)


def test_limits_lie_between_right_and_wrong_pairs():
    found = chosen(pairs())
    shift, outlines = found.instruction.checks["shift"], found.instruction.checks["outlines"]
    assert 0.012 < (shift.most or 0) < 0.1
    assert 0.5 < (outlines.least or 0) < 0.92
    assert [one.measure for one in found.limits] == ["shift", "outlines"]
    assert found.found.share == 1
    assert found.refused.share <= 2 * REFUSED
    low, high = found.refused.interval
    assert low <= found.refused.share <= high


def test_a_person_is_asked_before_a_pair_is_rejected():
    for check in chosen(pairs()).instruction.checks.values():
        assert check.review is not None
        assert check.review <= check.most if check.most is not None else check.review >= (check.least or 0)


def test_figures_are_of_pairs_that_no_limit_was_chosen_by():
    some = pairs()
    found = chosen(some)
    held_right = found.refused.of
    assert 250 < held_right < 350
    assert found.limits[0].figures.safe == held_right


def test_another_order_of_the_pairs_gives_the_same_limits():
    some = pairs()
    assert chosen(some).instruction == chosen(some[::-1]).instruction


def test_a_limit_that_nothing_speaks_of_stays_and_is_named():
    found = chosen(pairs(moved=0))
    assert found.instruction.checks["shift"] == INSTRUCTION.checks["shift"]
    assert found.remarks == (
        "How far the product was moved keeps its limits: of pairs labelled moved there are 0 to choose or to judge "
        "them by, where 5 are needed.",
    )


def test_a_measure_that_no_pair_has_keeps_its_limits():
    some = pairs()
    for pair in some:
        del pair.scores[f"{PREFIX}shift"]
    assert chosen(some).remarks == ("How far the product was moved keeps its limits: it wasn't measured of any pair.",)


def test_mistakes_are_kept_the_worst_first():
    some = pairs()
    odd = [LabelledPair(5000 + at, f"odd{at}", reasons_of("changed"), some[0].scores) for at in range(6)]
    found = chosen(some + odd)
    assert {pair.row for pair in found.missed} <= {pair.row for pair in odd}
    assert found.found.hits == found.found.of - len(found.missed)


def test_too_few_right_pairs_promise_nothing():
    with pytest.raises(TooFew, match="can't promise"):
        chosen(pairs(right=40))


def test_without_wrong_pairs_there_is_nothing_to_choose_by():
    with pytest.raises(TooFew, match="No limit of mine can be chosen"):
        chosen(pairs(wrong=0, moved=0))


@pytest.mark.parametrize(
    ("label", "reasons"),
    [("kept", set()), ("changed", {"product_changed"}), ("moved; not_changed", {"moved", "not_changed"})],
)
def test_labels_say_what_is_wrong(label: str, reasons: set[str]):
    assert reasons_of(label) == reasons


@pytest.mark.parametrize(
    ("label", "words"), [("", "has no label"), ("fine", "is labelled 'fine'"), ("kept;moved", "both kept and moved")]
)
def test_other_labels_are_refused(label: str, words: str):
    with pytest.raises(ValueError, match=words):
        reasons_of(label)
