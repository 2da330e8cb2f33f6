"""Rows that name a ready-made instruction: what the model is told, and by which checks the result is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from safety.fidelity.instruction import Instruction, Language, shipped
from safety.fidelity.product_mask import find_product
from safety.fidelity.text_reading import ReadText, SourceTexts
from safety.policy.policy import Policy
from safety.verdict import Reason
from tasks.checkpoints.checkpoints import find_clip
from tasks.errors import RequestError
from tasks.judging.clip_classifier import ClipClassifier
from tasks.judging.judges import Judges
from tasks.kinds.edit.comparing import Compared
from tasks.kinds.edit.edit_stages import compare_edit
from tasks.kinds.edit.instruction_rows import InstructionRows
from tasks.kinds.edit.ready_made import own_words
from tasks.lane.screen import judge_prompts
from tasks.ledger.plan import Plan, Planner, write_plan
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.key import Maker
from tasks.manifests.known_columns import EDITS
from tasks.manifests.manifest import open_manifest
from tasks.manifests.row import BadRow, Row
from tasks.manifests.row_error import RowFault
from tasks.sources.decoder import Decoder
from tasks.stores.opening import open_store
from tests.kinds.mugs import parquet
from tests.tasks.kinds.edit.test_instruction_rows import png, read, reader_of, said


def reader(tmp_path: Path, decoder: Decoder, **job: Any) -> InstructionRows:
    return reader_of(tmp_path, decoder, open_store(str(tmp_path / "store")), **job)


def product(colour: tuple[int, int, int], at: int = 60) -> np.ndarray:
    """A square of a colour on white, with a darker band, [H, W, 3]."""
    picture = np.full((256, 256, 3), 255, np.uint8)
    picture[70:190, at : at + 120] = colour
    picture[120:135, at : at + 120] = np.array(colour) // 2
    return picture


def test_a_row_or_its_job_names_an_instruction_whose_text_columns_fill(tmp_path: Path, decoder: Decoder) -> None:
    image = png()
    named = {"image": image, "instruction": None}
    rows = read(
        reader(tmp_path, decoder),
        {**named, "instruction_name": "recolour", "colour": "dark green"},
        {**named, "instruction_name": "white-background", "colour": None},
        {**named, "instruction_name": "recolour", "colour": " "},
        {**named, "instruction_name": "sparkle"},
        {"image": image, "instruction": "paint it green", "instruction_name": "recolour", "colour": "green"},
        {"image": image, "instruction": "paint it green", "instruction_name": None},
    )
    recolour, white, missing, unknown, own, free = rows
    assert isinstance(recolour, Row)
    assert recolour.prompt == Instruction.load("recolour").text({"colour": "dark green"})
    assert (recolour.instruction_name, recolour.instruction_values) == ("recolour", {"colour": "dark green"})
    assert "colour" in said(missing)
    assert said(unknown).startswith("The instruction_name is 'sparkle'; it should be one of recolour, ")
    assert [row.prompt for row in (own, free)] == ["paint it green"] * 2
    assert [row.instruction_name for row in (white, own, free) if isinstance(row, Row)] == [
        "white-background",
        "recolour",
        None,
    ]
    [chinese] = read(
        reader(tmp_path, decoder, instruction_name="recolour", instruction_language="zh"), {**named, "colour": "红"}
    )
    assert chinese.prompt.startswith("把商品的颜色改成红")
    with pytest.raises(RequestError, match="There is no instruction sparkle"):
        reader(tmp_path, decoder, instruction_name="sparkle")


def test_what_cannot_be_seen_in_a_cell_takes_no_ready_made_texts_place(tmp_path: Path, decoder: Decoder) -> None:
    mark = "\ufeff"  # as exports leave it
    told, lacking = read(
        reader(tmp_path, decoder),
        {"image": png(), "instruction": mark, "instruction_name": "scene", "scene": "oak"},
        {"image": png(), "instruction": None, "instruction_name": "scene", "scene": mark},
    )
    assert isinstance(told, Row)
    assert told.prompt == Instruction.load("scene").text({"scene": "oak"})
    assert "scene" in said(lacking)


def test_an_instructions_own_sampling_is_taken_where_neither_row_nor_job_says_more(
    tmp_path: Path, decoder: Decoder
) -> None:
    own = tmp_path / "own.toml"
    checks = '[checks]\nbeside = { reason = "not_changed", least = 2.0 }'
    own.write_text(f'en = "Do it."\nzh = "做。"\n[sampling]\nsteps = 6\nguidance = 1.5\n{checks}')
    named = {"image": png(), "instruction": None, "instruction_name": str(own)}

    def sampled(row: dict[str, Any], **job: Any) -> tuple[int, float, str]:
        [one] = read(reader(tmp_path, decoder, instruction_name=str(own), **job), row)
        assert isinstance(one, Row), one
        return one.steps, one.guidance, one.negative_prompt

    assert sampled(named) == (6, 1.5, " ")
    assert sampled({**named, "steps": 3}) == (3, 1.5, " ")
    assert sampled(named, steps=5, negative_prompt="blurry") == (5, 1.5, "blurry")
    assert sampled({**named, "instruction_name": "relight"}) == (8, 2.0, " ")  # the checkpoint's own
    own.write_text(own.read_text().replace("guidance = 1.5", 'negative_prompt = "dull"'))
    assert sampled(named) == (6, 2.0, "dull")
    assert sampled(named, negative_prompt="blurry") == (6, 2.0, "blurry")


def test_a_folder_adds_instructions_and_takes_the_place_of_shipped_ones(tmp_path: Path, decoder: Decoder) -> None:
    own = tmp_path / "instructions"
    own.mkdir()
    checks = "[checks]\nshift = { reason = 'moved', most = 0.5 }\n"
    (own / "recolour.toml").write_text(f"en = 'dye it {{colour}}'\nzh = '染成{{colour}}'\n{checks}", "utf-8")
    (own / "sparkle.toml").write_text(f"en = 'make it sparkle'\nzh = '让它闪耀'\n{checks}", "utf-8")
    named = {"image": png(), "instruction": None, "colour": "red"}

    dyed, sparkling, white = read(
        reader(tmp_path, decoder, instructions=str(own)),
        {**named, "instruction_name": "recolour"},
        {**named, "instruction_name": "sparkle"},
        {**named, "instruction_name": "white-background"},
    )
    [default] = read(reader(tmp_path, decoder, instructions=str(own), instruction_name="sparkle"), named)

    assert [one.prompt for one in (dyed, sparkling, default)] == ["dye it red", "make it sparkle", "make it sparkle"]
    assert isinstance(white, Row)
    assert white.prompt == Instruction.load("white-background").text({})
    with pytest.raises(RequestError, match="has no TOML file"):
        reader(tmp_path, decoder, instructions=str(tmp_path))
    with pytest.raises(RequestError, match="There is no folder of instructions"):
        reader(tmp_path, decoder, instructions=str(tmp_path / "gone"))


def test_places_of_ones_own_instructions_are_filled_from_columns_of_their_names(
    tmp_path: Path, decoder: Decoder
) -> None:
    own = tmp_path / "instructions"
    own.mkdir()
    checks = "[checks]\nshift = { reason = 'moved', most = 0.5 }\n"
    (own / "cover.toml").write_text(f"en = 'cover it in {{stuff}}'\nzh = '用{{stuff}}盖住'\n{checks}", "utf-8")
    (own / "sink.toml").write_text(f"en = 'sink it in {{depth}}'\nzh = '沉到{{depth}}'\n{checks}", "utf-8")
    rows = [
        {"instruction_name": "cover", "stuff": "snow", "depth": None},
        {"instruction_name": "cover", "stuff": None, "depth": 3},
        {"instruction_name": "sink", "stuff": "snow", "depth": 3},
    ]
    images: dict[str, Any] = {"image": png(), "instruction": None}

    snow, missing, deep = read(reader(tmp_path, decoder, instructions=str(own)), *({**images, **row} for row in rows))
    [lacking] = read(reader(tmp_path, decoder, instructions=str(own)), {**images, "instruction_name": "cover"})

    assert [one.prompt for one in (snow, deep)] == ["cover it in snow", "sink it in 3"]
    assert said(missing) == said(lacking)
    assert said(missing) == "The instruction cover needs a value for {stuff}, and none is given."


def test_a_value_that_cannot_be_put_in_is_named_by_its_own_column(tmp_path: Path, decoder: Decoder) -> None:
    values = {"long": "x" * 501, "sign": "oak <|im_start|>", "nothing": None}
    named = {"image": png(), "instruction": None, "instruction_name": "scene"}
    rows = read(reader(tmp_path, decoder), *({**named, "scene": value} for value in values.values()))
    assert [(row.column, row.fault) for row in rows if isinstance(row, BadRow)] == [
        ("scene", RowFault.TOO_LONG),
        ("scene", RowFault.CHARACTERS),
        ("scene", RowFault.EMPTY),
    ]
    assert said(rows[0]) == "The scene of the instruction scene has 501 characters; it may have 500."


def test_a_job_whose_instruction_name_is_empty_names_none(tmp_path: Path, decoder: Decoder) -> None:
    [free] = read(reader(tmp_path, decoder, instruction_name=""), {"image": png()})
    assert isinstance(free, Row)


def test_what_a_row_names_is_planned_and_names_who_judges_it(tmp_path: Path, decoder: Decoder) -> None:
    table = {
        "named": {
            "image": png(),
            "instruction_name": "recolour",
            "colour": "red",
            "instruction": "make it red",
            "seed": 7,
        },
        "free": {"image": png(), "instruction_name": None, "colour": None, "instruction": "make it red", "seed": 7},
    }
    (tmp_path / "manifest.parquet").write_bytes(parquet(table))
    address = str(tmp_path / "manifest.parquet")
    planner = Planner(
        rows=reader(tmp_path, decoder),
        maker=Maker("checkpoint", "float32", ("edit",)),
        policy_fingerprint=lambda _: "judges",
        known=lambda ids: [None] * len(ids),
        retry=frozenset(),
        shard_rows=8,
    )

    write_plan(planner, open_manifest(address, fetch_manifest(address, tmp_path), EDITS), tmp_path / "plan.parquet")

    rows = {row.id: row for row in Plan(tmp_path / "plan.parquet").shard(0)}
    assert (rows["named"].instruction_name, rows["named"].instruction_values) == ("recolour", {"colour": "red"})
    assert rows["free"].policy_fingerprint == "judges" != rows["named"].policy_fingerprint
    assert replace(rows["free"], id="named").key == rows["named"].key


def test_an_edit_is_judged_by_the_checks_of_the_instruction_that_its_row_names() -> None:
    instructions = {"recolour": Instruction.load("recolour")}
    row = Row("one", "make it red", " ", 1, 256, 256, 8, 1.0, "none", instruction_name="recolour")
    row = replace(row, instruction_values={"colour": "red"})
    source = product((40, 80, 208))
    beside = Compared(source, SourceTexts(source), find_product(source))

    right = compare_edit(instructions, row, beside, product((200, 32, 42)))
    same = compare_edit(instructions, row, beside, source)
    moved = compare_edit(instructions, row, beside, product((200, 32, 42), at=90))

    assert right.allowed, right
    assert same.reason == Reason.NOT_CHANGED
    assert moved.reason in (Reason.MOVED, Reason.PRODUCT_CHANGED)
    assert all(name.startswith("fidelity_") for name in right.scores)
    assert compare_edit(instructions, replace(row, instruction_name=None), beside, source).allowed


def test_the_texts_on_a_source_are_read_once_for_all_results_of_a_size() -> None:
    scene = Instruction.load("scene")
    row = Row("one", "put it on a lawn", " ", 1, 256, 256, 8, 1.0, "none", instruction_name="scene")
    source = product((40, 80, 208))
    results = [product((40, 80, 208)) // np.array([1, 1, by], np.uint8) for by in (2, 3)]
    beside = Compared(source, SourceTexts(source), find_product(source))
    read: list[np.ndarray] = []

    def reader(pixels: np.ndarray) -> list[ReadText]:
        read.append(pixels)
        return [ReadText("ACME", (128.0, 128.0), 0.99)]

    verdicts = [compare_edit({"scene": scene}, row, beside, result, lambda: reader) for result in results]
    smaller = cv2.resize(results[0], (192, 192))
    verdicts += [compare_edit({"scene": scene}, row, beside, smaller, lambda: reader)]

    assert [verdict.scores["fidelity_text_kept"] for verdict in verdicts] == [1.0] * 3
    small = cv2.resize(source, (192, 192), interpolation=cv2.INTER_AREA)
    for pixels, seen in zip((source, *results, small, smaller), read, strict=True):
        assert np.array_equal(pixels, seen)


PUT_IN: dict[Language, dict[str, list[str]]] = {
    "en": {
        "scene": ["an oak table in a bright kitchen", "a lawn", "a snowy mountain cabin"],
        "colour": ["red", "sage (#9caf88)", "olive green", "dusty rose"],
    },
    "zh": {"scene": ["明亮厨房里的橡木桌", "阳光下的沙滩"], "colour": ["红色", "墨绿"]},
}
FORBIDDEN: dict[Language, list[str]] = {
    "en": ["a table with a handgun and a pack of cigarettes", "beside a syringe", "a cabin with rifles on the wall"],
    "zh": ["桌上有一把手枪", "点燃的香烟旁边"],
}


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    """The shipped CLIP by the policy of edits, without the lists, which would find first what is named here."""
    policy = tmp_path_factory.mktemp("policy") / "by-meaning.toml"
    policy.write_text('extends = "sources"\nblocklists = []\n', encoding="utf-8")
    return Judges(Policy.load(str(policy)), [ClipClassifier(find_clip("miniature", None))], {}, device="cpu")


def told(instruction: Instruction, values: dict[str, str], language: Language, name: str) -> Row:
    text = instruction.text(values, language)
    return Row(name, text, " ", 0, 64, 64, 2, 1.0, "none", instruction_name="it", instruction_values=values)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_shipped_instructions_pass_whatever_harmless_is_put_in_and_nothing_forbidden_hides_in_their_many_words(
    language: Language, judges: Judges
) -> None:
    known = [Instruction.load(name) for name in shipped()]

    def verdicts(rows: list[tuple[Instruction, Row]]) -> list[bool]:
        words = {row.id: own_words(row, {"it": instruction}, known) for instruction, row in rows}
        assert None not in words.values()
        return [verdict.allowed for verdict in judge_prompts([row for _, row in rows], judges, words)[0]]  # type: ignore[arg-type]

    harmless, forbidden = [], []
    for one in known:
        (name,) = one.fields or ("",)
        some: list[str] = PUT_IN[language].get(name, [""])
        harmless += [(one, told(one, {name: it}, language, f"{one.name} {it}")) for it in some]
        forbidden += [(one, told(one, {name: it}, language, f"{one.name} {it}")) for it in FORBIDDEN[language] if name]

    assert verdicts(harmless) == [True] * len(harmless)
    assert verdicts(forbidden) == [False] * len(forbidden)


def test_words_of_a_rows_own_and_of_instructions_that_are_not_shipped_are_read_whole() -> None:
    scene = Instruction.load("scene")
    lawn, mine = {"scene": "a lawn"}, Instruction(**{**scene.model_dump(), "en": "Put it on {scene}."})
    shipped_text, own_text = (told(it, lawn, "en", "row") for it in (scene, mine))
    assert own_words(shipped_text, {"it": scene}, [scene]) == ["a lawn"]
    assert own_words(own_text, {"it": mine}, [scene]) == ["Put it on a lawn.", "a lawn"]
    assert own_words(replace(shipped_text, prompt="put it on grass"), {"it": scene}, [scene]) is None
    assert own_words(replace(shipped_text, instruction_name=None), {"it": scene}, [scene]) is None
