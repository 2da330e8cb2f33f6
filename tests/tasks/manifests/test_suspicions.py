"""What looks wrong in a manifest's rows is told with a count and the first ids, and stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.known_columns import EDITS
from tasks.manifests.manifest import open_manifest
from tasks.manifests.suspicions import suspicions
from tests.tasks.conftest import Write


def told(file: Path, *template: str) -> list[str]:
    fetched = fetch_manifest(str(file), file.parent)
    return [one.sentence for one in suspicions(open_manifest("m", fetched, template_columns=template or None))]


def prompts(*texts: str | None, **columns: list[Any]) -> list[dict[str, Any]]:
    others = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [
        {"id": f"r{n}", "prompt": text, **other}
        for n, (text, other) in enumerate(zip(texts, others or [{}] * len(texts), strict=True))
    ]


def test_words_that_stand_for_nothing_html_and_unfilled_placeholders_are_told(write_manifest: Write) -> None:
    texts = ["a mug", "NaN", "null ", "N/A", "none", "a <b>red</b> mug", "mug &amp; cup", "a {color} mug", "{{title}}"]
    innocent = ["a nan bread", "mug, 3 < 4 > 2", "a null modem cable", "set [2 pieces]", "", None, "R&D; mug"]
    assert told(write_manifest(prompts(*texts, *innocent))) == [
        "4 rows have a prompt that is 'nan', 'null' or the like, which is read as a word: r1, r2, r3, ….",
        "2 rows have a prompt with HTML in it: r5, r6.",
        "2 rows have a prompt with a placeholder in braces that nobody filled: r7, r8.",
    ]


def test_the_columns_that_a_template_reads_are_looked_through(write_manifest: Write) -> None:
    rows = [{"id": "a", "title": "<p>mug</p>", "other": "<p>"}, {"id": "b", "title": "mug", "other": "nan"}]
    assert told(write_manifest(rows), "title") == ["1 row has 'title' with HTML in it: a."]


def test_what_is_put_into_an_instruction_is_looked_through_too(write_manifest: Write) -> None:
    rows = [{"id": "a", "image": "a.png", "instruction": "nan", "scene": "nan", "colour": "<b>red</b>"}]
    file = write_manifest(rows)
    found = suspicions(open_manifest("m", fetch_manifest(str(file), file.parent), EDITS))
    assert [one.sentence for one in found] == [
        "1 row has an instruction that is 'nan', 'null' or the like, which is read as a word: a.",
        "1 row has a scene that is 'nan', 'null' or the like, which is read as a word: a.",
        "1 row has a colour with HTML in it: a.",
    ]


def test_rows_that_ask_for_the_same_picture_are_told(write_manifest: Write) -> None:
    rows = prompts("mug", "mug", "cup", "mug", "mug", seed=[1, 1, 1, 2, None], width=[64, 64, 64, 64, 64])
    assert told(write_manifest(rows)) == [
        "2 rows have the prompt and seed of another row, and ask for the same picture again: r0, r1."
    ]
    assert told(write_manifest(prompts("mug", "mug", seed=[1, 1], width=[64, 128]))) == []


def test_a_prompt_that_very_many_rows_share_is_told(write_manifest: Write) -> None:
    assert told(write_manifest(prompts(*["mug"] * 19, "cup"))) == []
    assert told(write_manifest(prompts(*["mug"] * 20, "cup"))) == [
        "20 rows have a prompt that at least 20 rows share: r0, r1, r2, …."
    ]


def test_carried_text_that_is_not_utf8_is_told_by_its_columns_name(tmp_path: Path) -> None:
    title = pa.array([b"mug", b"\xff", None]).view(pa.string())
    pq.write_table(pa.table({"id": ["a", "b", "c"], "prompt": ["x", "y", "z"], "title": title}), tmp_path / "m.parquet")
    assert told(tmp_path / "m.parquet") == [
        "1 row has text that isn't UTF-8 in the column 'title', which is carried as it is: b."
    ]
