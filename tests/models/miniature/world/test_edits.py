"""Edits of the drawn world: one product seen twice, what can be asked of it, and results that are wrong."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.miniature.datasets.drawings import ATTRIBUTES
from models.miniature.datasets.edit_pairs import LANGUAGES, PART, STATES, draw_all_pairs, load_pairs
from models.miniature.language.instructions import NAMES, instruction, with_chatter
from models.miniature.language.wordings import KEEPING, REFERRING, TEMPLATES
from models.miniature.training.edit_trials import edit_trials, found_by, referring_trials
from models.miniature.training.judge import JUDGED, load_judge
from models.miniature.world.edits import (
    ASKABLE,
    WRONGS,
    Edit,
    edits_among,
    random_states,
    unnamed_states,
    unseen_edit,
    wrong_result,
)
from models.miniature.world.surface import shade
from models.miniature.world.world import (
    APART,
    COLOURS,
    FORBIDDEN,
    KINDS,
    PIGMENTS,
    Alteration,
    Drawing,
    Scene,
    draw_alike,
    held_out,
)


def products(count: int, seed: int = 0) -> Iterator[tuple[list[Scene], list[Drawing]]]:
    random = Random(seed)
    for _ in range(count):
        states = random_states(random, 256, 256)
        yield states, draw_alike(states, random)


def overlap(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(((one > 127) & (other > 127)).sum() / ((one > 127) | (other > 127)).sum())


def test_no_product_is_edited_that_no_shop_may_show() -> None:
    random = Random(11)
    shown = {random_states(random, 256, 256)[0].kind for _ in range(400)}
    shown |= {unnamed_states(random, 256, 256)[0][0].kind for _ in range(400)}
    asked = {unseen_edit(random, attribute).source.kind for attribute in ASKABLE for _ in range(200)}
    assert shown == asked == {*KINDS} - {*FORBIDDEN}


def test_a_product_stands_in_the_same_place_and_shape_in_every_scene() -> None:
    for _, drawings in products(12):
        for drawing in drawings[1:]:
            assert (drawing.product[..., 3] == drawings[0].product[..., 3]).all()


def test_another_background_or_a_fault_leaves_the_product_as_it_is() -> None:
    for _, (before, elsewhere, _, _, faulty) in products(12):
        assert (elsewhere.product == before.product).all()
        assert (faulty.product == before.product).all()
        assert (elsewhere.background != before.background).any()
        assert (faulty.background == before.background).all()


def test_another_colour_leaves_the_background_and_the_light_as_they_are() -> None:
    for states, drawings in products(12):
        assert states[0].colour != states[2].colour
        outside = drawings[0].product[..., 3] == 0
        assert (drawings[2].picture[outside] == drawings[0].picture[outside]).all()
        assert (drawings[2].product[..., :3] != drawings[0].product[..., :3]).any()


def test_the_same_seed_draws_the_same_product_again() -> None:
    states = random_states(Random(1), 288, 224)
    one, two = (draw_alike(states, Random(5)) for _ in range(2))
    assert all((first.picture == second.picture).all() for first, second in zip(one, two, strict=True))


def test_training_never_sees_a_held_out_pair_and_no_edit_asks_for_a_fault() -> None:
    random = Random(2)
    for _ in range(200):
        states = random_states(random, 256, 256)
        assert not any(held_out(state.kind, state.colour) for state in states)
        for source, target in edits_among(states, random):
            assert states[target].fault == "none"
            assert 1 <= len(Edit(states[source], states[target]).asked) <= 2


def test_a_product_of_an_unnamed_colour_looks_like_no_held_out_pair_and_is_asked_for_no_colour() -> None:
    random = Random(2)
    for _ in range(200):
        states, alteration = unnamed_states(random, 256, 256)
        assert alteration.pigment is not None
        unseen = [PIGMENTS[colour] for colour in COLOURS if held_out(states[0].kind, colour)]
        assert min(math.dist(alteration.pigment, each) for each in unseen) > APART
        asked = [Edit(states[source], states[target]).asked for source, target in edits_among(states, random)]
        assert asked
        assert not any("colour" in each for each in asked)


def test_a_product_has_the_pigment_that_it_is_given_whatever_its_scene_names() -> None:
    states, _ = unnamed_states(Random(6), 256, 256)
    named, given = (
        draw_alike(states[:1], Random(5), [alteration])[0]
        for alteration in (Alteration(), Alteration(pigment=(0, 90, 0)))
    )
    assert (named.product[..., 3] == given.product[..., 3]).all()
    assert (named.product[..., :3] != given.product[..., :3]).any()


@pytest.mark.parametrize("attribute", ASKABLE)
def test_an_unseen_edit_asks_for_one_thing_of_a_held_out_pair(attribute: str) -> None:
    random = Random(3)
    for _ in range(50):
        edit = unseen_edit(random, attribute)
        assert edit.asked == (attribute,)
        assert held_out(edit.target.kind, edit.target.colour)
        assert edit.target.fault == "none"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_instruction_names_everything_that_it_asks_for(language, split) -> None:
    random = Random(4)
    for _ in range(300):
        states = random_states(random, 256, 256)
        for source, target in edits_among(states, random):
            edit = Edit(states[source], states[target])
            text = instruction(edit, random, language=language, split=split).lower()
            assert "{" not in text
            for attribute in edit.asked:
                value = getattr(edit.source if attribute == "fault" else edit.target, attribute)
                names = [max(name.split("{colour}"), key=len).strip() for name in NAMES[attribute][value][language]]
                assert any(name.lower() in text for name in names), (text, attribute, value)


def test_no_wording_of_the_trials_is_one_of_training() -> None:
    for languages in (*TEMPLATES.values(), REFERRING, KEEPING):
        for splits in languages.values():
            assert not set(splits["train"]) & set(splits["test"])
            assert len(splits["train"]) >= 5


def test_no_edit_asks_for_a_pattern_whose_repeat_nobody_could_know() -> None:
    random = Random(12)
    for _ in range(100):
        for states in (random_states(random, 256, 256), unnamed_states(random, 256, 256)[0]):
            for source, target in edits_among(states, random):
                asked = states[target].pattern
                assert asked in (states[source].pattern, "plain") or asked != states[0].pattern


def test_a_pattern_that_is_asked_for_has_the_ordinary_repeat_and_the_products_own_any(monkeypatch) -> None:
    chosen = []

    def noted(*args: object) -> object:
        chosen.append(args[-1] is None)
        return shade(*args)

    monkeypatch.setattr("models.miniature.world.world.shade", noted)
    striped = Scene("t-shirt", "green", "plain", "stripes", "white", "large", "centre", "none", 256, 256)
    draw_alike([striped, replace(striped, background="grass"), replace(striped, pattern="dots")], Random(1))
    assert chosen == [False, False, True]

    flat, surface = np.full((64, 64, 3), 128, np.float32), np.ones((64, 64), np.float32)
    asked, own, other = (
        shade(flat, surface, (0, 128, 0), "plain", "stripes", 64.0, Random(1), each)
        for each in (None, Random(2), Random(3))
    )
    again = shade(flat, surface, (0, 128, 0), "plain", "stripes", 64.0, Random(1), None)
    assert (asked == again).all()
    assert (asked != own).any()
    assert (own != other).any()


def test_words_that_say_nothing_come_between_what_a_template_names() -> None:
    random = Random(8)
    for language in LANGUAGES:
        for template in TEMPLATES["colour"][language]["train"]:
            chatty = with_chatter(template, random, language)
            assert chatty != template
            assert re.findall(r"{\w+}", chatty) == re.findall(r"{\w+}", template)


@pytest.mark.parametrize("wrong", WRONGS)
def test_a_wrong_result_isnt_the_same_product(wrong: str) -> None:
    random = Random(f"wrong {wrong}")
    for _ in range(8):
        edit = unseen_edit(random, "background")
        while edit.source.size == "large":
            edit = unseen_edit(random, "background")
        before, after = wrong_result(edit, wrong, random)
        assert (before.background != after.background).any()  # what was asked for is there
        alike = overlap(before.product[..., 3], after.product[..., 3])
        if wrong in ("shape", "moved"):
            assert alike < 0.95
        else:
            assert alike == 1
            inside = before.product[..., 3] == 255
            changed = (before.product[inside] != after.product[inside]).any(-1).mean()
            assert changed > (0.1 if wrong == "colour" else 0.0)


def test_trials_take_turns_and_are_the_same_again() -> None:
    one, two = (edit_trials(8, "zh", 5) for _ in range(2))
    assert [trial.edit.asked[0] for trial in one] == [*ASKABLE, *ASKABLE]
    assert [trial.instruction for trial in one] == [trial.instruction for trial in two]
    assert (one[3].source.picture == two[3].source.picture).all()
    assert edit_trials(1, "zh", 6)[0].instruction != one[0].instruction


def test_the_training_set_is_drawn_once_and_read_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("models.miniature.datasets.edit_pairs.PART", 6)
    monkeypatch.setattr("models.miniature.datasets.edit_pairs.EDIT_SHAPES", {(128, 160): 0.5, (128, 128): 0.5})
    draw_all_pairs(tmp_path, 12, 1)
    written = (tmp_path / "128x160" / "00000.npy").stat().st_mtime_ns
    draw_all_pairs(tmp_path, 12, 1)
    assert (tmp_path / "128x160" / "00000.npy").stat().st_mtime_ns == written
    upright, square = load_pairs(tmp_path, torch.device("cpu"))
    assert upright.pictures.shape == (6 * STATES, 160, 128, 3)
    (alone,) = upright.asked
    assert alone.shown.shape == (len(alone.texts), 1)
    for asked in (alone, *square.asked):
        sources = asked.shown[:, 0]
        assert len(asked.texts) == len(asked.targets)
        assert (sources != asked.targets).all()
        assert (sources // STATES == asked.targets // STATES).all()  # of one product
    assert PART > 6


def test_beside_a_product_stands_another_one_on_the_background_that_is_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("models.miniature.datasets.edit_pairs.PART", 6)
    monkeypatch.setattr("models.miniature.datasets.edit_pairs.EDIT_SHAPES", {(128, 128): 1.0})
    draw_all_pairs(tmp_path, 12, 1)
    (pairs,) = load_pairs(tmp_path, torch.device("cpu"))
    _, asked = pairs.asked
    background, fault = (list(ATTRIBUTES).index(name) for name in ("background", "fault"))
    referring = [("2" in text or "second" in text.lower() or "第二" in text) for text in asked.texts]
    assert 0 < sum(referring) < len(referring)
    shown, targets = asked.shown.tolist(), asked.targets.tolist()
    for text_refers, (source, beside), target in zip(referring, shown, targets, strict=True):
        assert beside // STATES != source // STATES
        assert beside // (6 * STATES) == source // (6 * STATES)  # of one part
        assert pairs.scenes[beside, fault] == 0
        if text_refers:
            assert pairs.scenes[beside, background] == pairs.scenes[target, background]
            assert pairs.scenes[source, background] != pairs.scenes[target, background]


def test_trials_of_a_second_picture_show_another_product_on_the_background_that_is_asked_for() -> None:
    judge = load_judge(Path("benchmarks/judge.safetensors"), torch.device("cpu"))
    posed = referring_trials(6, "en", 3)
    beside, made = (
        torch.from_numpy(np.stack([drawing.picture for drawing in drawings]))
        for drawings in ([each.beside for each in posed], [each.target for each in posed])
    )
    kind, background = (JUDGED.index(name) for name in ("kind", "background"))
    seen, wanted = judge.verdict(beside), judge.verdict(made)
    assert (seen[:, kind] != wanted[:, kind]).all()
    assert (seen[:, background] == wanted[:, background]).all()
    assert all(each.edit.asked == ("background",) and "picture" in each.instruction.lower() for each in posed)
    assert "nan" not in found_by(judge, made, posed)
