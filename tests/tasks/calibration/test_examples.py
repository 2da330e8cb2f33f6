"""Labelled examples, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.calibration.examples import Example, open_examples
from tasks.errors import RequestError

CONCEPTS = ("weapon", "smoking")


def rows_of(file: Path) -> list[Example]:
    return list(open_examples(str(file), CONCEPTS))


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    return folder / "examples.parquet"


def csv(folder: Path, text: str | bytes, name: str = "examples.csv") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_a_csv_is_read_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    text = '\ufefflabel,prompt,price\r\nsafe,"a mug, red",12\r\nweapon;smoking,"a gun\nthat smokes",n/a\r\n'

    assert rows_of(csv(tmp_path, text)) == [
        Example(0, "a mug, red", None, frozenset()),
        Example(1, "a gun\nthat smokes", None, frozenset({"weapon", "smoking"})),
    ]


def test_numbers_and_nothing_in_a_csv_stay_text(tmp_path: Path) -> None:
    assert [one.prompt for one in rows_of(csv(tmp_path, "prompt,label\n007,safe\nNULL,safe\n"))] == ["007", "NULL"]
    assert [one.prompt for one in rows_of(csv(tmp_path, "prompt\tlabel\na, b\tsafe\n", "x.tsv"))] == ["a, b"]


def test_a_parquet_holds_pictures_and_lists_of_labels_as_datasets_do(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": b"one", "path": "1.png"}, "label": ["weapon", "smoking"]},
        {"image": {"bytes": None, "path": "2.png"}, "label": ["safe"]},
    ]

    assert rows_of(parquet(tmp_path, rows)) == [
        Example(0, None, b"one", frozenset({"weapon", "smoking"})),
        Example(1, None, "2.png", frozenset()),
    ]
    assert rows_of(parquet(tmp_path, [{"image": "3.png", "prompt": " ", "label": "weapon | smoking"}])) == [
        Example(0, None, "3.png", frozenset({"weapon", "smoking"}))
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prompt,kind\na,safe\n", "have no column label; they have prompt, kind"),
        ("title,label\na,safe\n", "have no column prompt or image; they have title, label"),
        ("prompt,label,label\na,safe,safe\n", "two columns named label"),
        ("", "can't be read"),
        ("prompt,label\n", "have no rows"),
        ("prompt,label\na,safe,b\n", "can't be read"),
        (b"prompt,label\n\xff\xfe,safe\n", "can't be read"),
        ("prompt,label\na,\n", "Row 0 .* has no label"),
        (
            "prompt,label\na,safe\nb,weapons\n",
            "Row 1 .* labelled 'weapons', which is no concept .* smoking, and safe",
        ),
        ("prompt,label\na,safe;weapon\n", "labelled both safe and weapon"),
        ("prompt,label\n  ,safe\n", "Row 0 .* has neither a prompt nor a picture"),
    ],
)
def test_a_file_that_wont_do_is_refused_in_a_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as refused:
        rows_of(csv(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_a_file_that_isnt_there_or_isnt_parquet_or_holds_other_types_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There is no file of examples"):
        open_examples(str(tmp_path / "absent.parquet"), CONCEPTS)
    with pytest.raises(RequestError, match="can't be read"):
        open_examples(str(csv(tmp_path, "no parquet", "x.parquet")), CONCEPTS)
    with pytest.raises(RequestError, match="hold int64 in their column prompt, where text should be"):
        open_examples(str(parquet(tmp_path, [{"prompt": 1, "label": "safe"}])), CONCEPTS)
    with pytest.raises(RequestError, match="in their column label, where names of concepts should be"):
        open_examples(str(parquet(tmp_path, [{"prompt": "a", "label": True}])), CONCEPTS)


def test_a_damaged_page_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "examples.parquet"
    table = pa.Table.from_pylist([{"prompt": f"a mug {number}", "label": "safe"} for number in range(500)])
    pq.write_table(table, file, write_page_checksum=True, use_dictionary=False, compression="none")
    data = bytearray(file.read_bytes())
    data[data.index(b"a mug 250") + 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(RequestError, match="can't be read"):
        rows_of(file)
