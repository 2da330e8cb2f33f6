"""packshot calibrate on the drawn world, through the miniature's CLIP."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.safety import examples
from safety.policy.policy import Policy
from tasks.errors import RequestError
from tasks.judging.judges import load_policy
from tests.flows.conftest import Ended

POLICY = """# Mine.
blocklists = ["mine.txt"]
calibrated_for = "another CLIP"  # until it is calibrated
neutral = ["a mug", "a bottle", "a chair", "a kitchen knife", "杯子", "椅子"]

[[concepts]]
name = "weapon"  # and what shoots
sentence = "No weapons."
phrases = ["a handgun", "a rifle", "a combat knife", "a hand grenade", "手枪", "步枪"]
prompt_threshold = 0.5
"""
PICTURES = POLICY.replace("prompt_threshold", "picture_threshold").replace(
    "neutral", "min_prompt_match = 0.1  # nearly all\nneutral"
)


@pytest.fixture
def calibrate(packshot: Callable[..., Ended], tmp_path: Path) -> Callable[..., Ended]:
    (tmp_path / "mine.txt").write_text("[weapons]\nhandgun\n")
    (tmp_path / "base.toml").write_text(POLICY)
    (tmp_path / "pictures.toml").write_text(PICTURES)
    return lambda *words: packshot("calibrate", *words, "--device", "cpu")


@pytest.fixture(scope="module")
def world() -> list[dict[str, Any]]:
    """Ordinary products and weapons: captions, drawings and labels."""
    rows = []
    for one in examples(3, each=9, safe=170):
        if one.labels <= {"weapon"}:
            buffer = io.BytesIO()
            Image.fromarray(one.picture).save(buffer, "PNG")
            label = sorted(one.labels) or ["safe"]
            rows.append({"prompt": one.caption, "image": buffer.getvalue(), "label": label})
    return rows


def write_csv(file: Path, rows: list[dict[str, Any]], columns: tuple[str, ...] = ("prompt", "label")) -> str:
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows([";".join(v) if isinstance(v := row[c], list) else v for c in columns] for row in rows)
    return file.name


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.name


def test_prompts_of_a_csv_give_a_policy_with_its_comments_and_a_page(
    calibrate: Callable[..., Ended], tmp_path: Path, world: list[dict[str, Any]]
) -> None:
    rows = [*world, *world[:20], {**world[0], "prompt": f"  {world[0]['prompt'].upper()}"}]  # what is there twice
    ended = calibrate(
        write_csv(tmp_path / "prompts.csv", rows),
        *("--policy", "base.toml", "--out", "new.toml", "--false-positives", "0.05"),
    )

    assert ended.code == 0, ended.err
    assert re.search(r"prompts +weapon +-?0\.\d+ +(9\d|100)\.\d\d %", ended.out)
    text = (tmp_path / "new.toml").read_text()
    assert text.startswith("# Calibrated by packshot for miniature at 5 % of false positives: see new.html\n# Mine.")
    assert 'calibrated_for = "miniature"  # until it is calibrated' in text
    assert "# and what shoots" in text
    old, new = Policy.load("base.toml"), Policy.load("new.toml")
    assert new.blocklist.contents == old.blocklist.contents
    assert new.concepts[0].prompt_threshold != 0.5
    assert new.concepts[0].picture_threshold is None
    page = (tmp_path / "new.html").read_text()
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)  # it needs no network
    assert "<svg" in page
    assert (tmp_path / "new.prompts.svg").read_text().startswith("<svg")
    assert not (tmp_path / "new.pictures.svg").exists()

    again = calibrate("prompts.csv", *("--policy", "new.toml", "--out", "newer.toml", "--false-positives", "0.05"))

    assert again.code == 0
    assert (tmp_path / "newer.toml").read_text() == text.replace("see new.html", "see newer.html")


def test_pictures_with_prompts_of_a_parquet_also_give_the_least_match(
    calibrate: Callable[..., Ended], tmp_path: Path, world: list[dict[str, Any]]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    ended = calibrate(
        write_parquet(tmp_path / "world.parquet", world),
        *("--policy", "pictures.toml", "--out", "elsewhere/new.toml", "--false-positives", "0.05"),
    )

    assert ended.code == 0, ended.err
    new = Policy.load(str(tmp_path / "elsewhere" / "new.toml"))
    assert new.blocklist.entries == Policy.load("pictures.toml").blocklist.entries  # found from the other folder
    assert new.concepts[0].picture_threshold not in (None, 0.5)
    assert new.min_prompt_match is not None
    assert new.min_prompt_match > 0.5
    found = re.search(r"pictures +weapon .*?(\d+\.\d\d) %.*?(\d+\.\d\d) %", ended.out)
    assert found
    assert float(found[1]) >= 90
    page = (tmp_path / "elsewhere" / "new.html").read_text()
    assert "beside another picture&#39;s prompt" in page.lower() or "No mistakes" in page
    assert "data:image/jpeg;base64," in page


def test_whatever_a_prompt_holds_stays_text_on_the_page(
    calibrate: Callable[..., Ended], tmp_path: Path, world: list[dict[str, Any]]
) -> None:
    evil = [{"prompt": f"<script>alert({number})</script> a mug", "label": ["weapon"]} for number in range(30)]

    ended = calibrate(
        write_csv(tmp_path / "prompts.csv", [*world, *evil]),
        *("--policy", "base.toml", "--out", "new.toml", "--false-positives", "0.05"),
    )

    assert ended.code == 0, ended.err
    page = (tmp_path / "new.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page


def test_with_too_few_examples_it_says_how_many_it_takes_and_writes_nothing(
    calibrate: Callable[..., Ended], tmp_path: Path, world: list[dict[str, Any]]
) -> None:
    name = write_csv(tmp_path / "prompts.csv", world)
    arguments = (name, "--policy", "base.toml", "--out", "new.toml")

    ended = calibrate(*arguments, "--false-positives", "0.01")

    assert ended.code == 2
    assert re.fullmatch(
        r"Too few examples for weapon in prompts: \d+ safe examples can't promise 1 % of false positives: it takes "
        r"299, and these promise [34]\.\d+ % at best\.\n",
        ended.err,
    )
    few = [row for row in world if row["label"] == ["safe"]] + [row for row in world if row["label"] != ["safe"]][:4]
    ended = calibrate(write_csv(tmp_path / "few.csv", few), *arguments[1:], "--false-positives", "0.05")
    assert ended.code == 2
    assert re.match(r"There are too few examples of weapon in prompts: \d to choose the threshold by and \d", ended.err)
    assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("prompt,kind\na,safe\n", "The examples examples.csv have no column label; they have prompt, kind."),
        ("prompt,label\na,violence\n", "is labelled 'violence', which is no concept of the policy; those are weapon,"),
        ("", "The examples examples.csv can't be read: Empty CSV file."),
        ("prompt,label\na mug,safe\nA  mug,weapon\n", "Rows 0 and 1 hold the same prompt, once labelled safe and once"),
        ("prompt,label\na mug,safe\n", "nothing that the policy base.toml has a threshold for"),
    ],
)
def test_examples_that_wont_do_end_with_a_sentence(
    calibrate: Callable[..., Ended], tmp_path: Path, rows: str, sentence: str
) -> None:
    (tmp_path / "examples.csv").write_text(rows)

    ended = calibrate("examples.csv", "--policy", "base.toml", "--out", "new.toml")

    assert ended.code == 2
    assert sentence in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (b"\x89PNG\r\n\x1a\nbroken", "The picture in row 1 can't be used: "),
        ("absent.png", "The picture in row 1 can't be used: There is no file 'absent.png'"),
        ("../../etc/passwd", "The picture in row 1 can't be used: "),
        ("http://127.0.0.1/x.png", "The picture in row 1 can't be used: "),
        ("file:///etc/passwd", "The picture in row 1 can't be used: Pictures aren't read from file: addresses"),
    ],
)
def test_a_picture_that_cant_be_read_ends_with_its_row(
    calibrate: Callable[..., Ended], tmp_path: Path, image: str | bytes, sentence: str
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 200, dtype=np.uint8)).save(buffer, "PNG")
    good = buffer.getvalue() if isinstance(image, bytes) else "good.png"
    (tmp_path / "good.png").write_bytes(buffer.getvalue())
    rows = [{"image": good, "label": "safe"}, {"image": image, "label": "weapon"}]

    ended = calibrate(
        write_parquet(tmp_path / "pictures.parquet", rows), "--policy", "pictures.toml", "--out", "new.toml"
    )

    assert ended.code == 2
    assert sentence in ended.err


def test_thresholds_of_another_clip_arent_carried_over(
    calibrate: Callable[..., Ended], tmp_path: Path, world: list[dict[str, Any]]
) -> None:
    more = POLICY + "picture_threshold = 0.1\n"
    (tmp_path / "more.toml").write_text(more)
    name = write_csv(tmp_path / "prompts.csv", world)
    arguments = (name, "--policy", "more.toml", "--out", "new.toml", "--false-positives", "0.05")

    ended = calibrate(*arguments)
    assert ended.code == 2
    assert (
        "wasn't measured on the CLIP 'miniature', and there are no examples to measure weapon in pictures" in ended.err
    )

    (tmp_path / "more.toml").write_text(more.replace('"another CLIP"', '"miniature"'))
    ended = calibrate(*arguments)
    assert ended.code == 0
    assert "There are no examples of weapon in pictures: that threshold is left as it was." in ended.out
    assert tomllib.loads((tmp_path / "new.toml").read_text())["concepts"][0]["picture_threshold"] == 0.1


def test_a_policy_that_was_measured_on_no_clip_is_for_calibrating_alone() -> None:
    with pytest.raises(RequestError, match=r"measured on no CLIP yet and would misjudge with 'miniature'.*calibrate"):
        load_policy("photographs", "miniature")


def test_the_new_policy_never_takes_the_place_of_its_base(calibrate: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "examples.csv").write_text("prompt,label\na,safe\n")

    for out, sentence in (
        ("base.toml", "would replace its own base"),
        ("new.txt", "must end in .toml"),
        ("absent/new.toml", "There is no folder absent"),
    ):
        ended = calibrate("examples.csv", "--policy", "base.toml", "--out", out)
        assert (ended.code, sentence in ended.err) == (2, True), ended.err
    assert (tmp_path / "base.toml").read_text() == POLICY
