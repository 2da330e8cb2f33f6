import numpy as np
import pytest

from models.miniature.world.world import Alteration
from safety.fidelity.fidelity_gate import judge_edit
from safety.fidelity.instruction import Instruction
from safety.fidelity.measure_names import PREFIX
from safety.fidelity.measuring import EditedPair
from safety.fidelity.product_mask import ProductMask
from safety.fidelity.text_reading import Reader, ReadText, SourceTexts, measure_text, text_reader
from safety.verdict import Reason

KEPT, LEFT = f"{PREFIX}text_kept", f"{PREFIX}text_left"


@pytest.fixture
def read(drawn):
    """Measures the texts of a pair in which these are read, on the shoe (128, 128) and in a corner (10, 10)."""
    source, result = drawn(after={"background": "grass"})
    pair = EditedPair(source.picture, result.picture, ProductMask(source.product[..., 3], "mask"))

    def measured(before: list[ReadText], after: list[ReadText]) -> dict[str, float]:
        answers = iter([before, after])
        return measure_text(pair, lambda _: next(answers))

    return measured


def on(text: str, certainty: float = 0.99) -> ReadText:
    return ReadText(text, (128.0, 135.0), certainty)


def beside(text: str) -> ReadText:
    return ReadText(text, (10.0, 10.0), 0.99)


def test_the_same_text_is_kept_whatever_its_case_and_spaces(read):
    assert read([on("Acme Shoes")], [on("ACMESHOES")]) == {KEPT: 1.0}


def test_another_text_is_less_alike_the_more_it_differs(read):
    assert read([on("ACME SHOES")], [on("ACNE SHOES")])[KEPT] > 0.8
    assert read([on("ACME")], [on("ORBIT")])[KEPT] < 0.5
    assert read([on("ACME")], [])[KEPT] == 0


def test_what_was_added_counts_as_a_difference(read):
    assert read([on("ACME")], [on("ACMESUPERSALE")])[KEPT] < 0.7


def test_what_is_read_without_certainty_or_too_short_says_nothing(read):
    assert read([on("ACME", 0.5), on("IX")], [on("ORBIT")]) == {}
    assert read([on("鞋")], []) == {}
    assert read([on("跑鞋")], [])[KEPT] == 0


def test_text_beside_the_product_is_counted_apart(read):
    assert read([on("ACME"), beside("SALE 50%")], [on("ACME")]) == {KEPT: 1.0, LEFT: 0.0}
    assert read([beside("SALE 50%")], [beside("SALE")])[LEFT] == pytest.approx(4 / 6)


@pytest.fixture(scope="module")
def reader() -> Reader:
    found = text_reader()
    assert found is not None, "the extra ocr is part of what the tests need"
    return found


def test_another_label_is_read_on_a_real_picture(drawn, noise, reader: Reader):
    scene = Instruction.load("scene")
    source, right = drawn(after={"background": "grass"}, label="ORBIT")
    _, wrong = drawn(after={"background": "grass"}, label="ORBIT", altered=Alteration(label="TERRA"))
    product, texts = ProductMask(source.product[..., 3], "mask"), SourceTexts(source.picture)

    def kept(result: np.ndarray) -> float:
        return judge_edit(source.picture, noise(result), product, scene, {}, reader, texts).scores[KEPT]

    assert kept(right.picture) == 1
    assert kept(wrong.picture) < 0.5


def test_a_changed_text_rejects_and_a_missing_reader_asks_nobody():
    scene = Instruction.load("scene")
    right = {f"{PREFIX}{name}": 0.0 for name in ("shift", "zoom", "colour", "colour_spot")}
    right |= {f"{PREFIX}outlines": 1.0, f"{PREFIX}beside": 9.0}
    assert scene.judge(right).allowed
    assert scene.judge(right | {KEPT: 0.2}).reason is Reason.PRODUCT_CHANGED
    assert scene.judge(right | {KEPT: 0.6}).waits
