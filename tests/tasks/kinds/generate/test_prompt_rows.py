"""A row gets the job's values where it says nothing, and fails on its own where it says something wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tasks.errors import RequestError
from tasks.kinds.generate.prompt_rows import rows_of
from tasks.manifests.row import BadRow, Row
from tasks.rows.text_template import TextTemplate
from tests.tasks.conftest import defaults


def rows(values: dict[str, Any], carried: dict[str, Any] | None = None, **job: Any) -> list[Row | BadRow]:
    return list(rows_of({"id": "a", "prompt": "a mug", **values}, carried or {}, defaults(**job)))


def row(values: dict[str, Any], **job: Any) -> Row:
    (only,) = rows(values, **job)
    assert isinstance(only, Row), only
    return only


def test_what_a_row_leaves_out_comes_from_the_job() -> None:
    made = row({"width": None, "steps": 20}, height=512)
    assert (made.width, made.height, made.steps, made.guidance) == (256, 512, 20, 2.0)


def test_a_seed_comes_from_the_id_so_that_it_does_not_move_with_the_manifest() -> None:
    assert row({"id": "a"}).seed == row({"id": "a", "prompt": "another"}).seed
    assert row({"id": "a"}).seed != row({"id": "b"}).seed
    assert row({"id": "a"}).seed != row({"id": "a"}, seed=1).seed
    assert row({"seed": 7}).seed == 7


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"id": "a/b"}, "The id should be"),
        ({"id": "x" * 129}, "The id should be"),
        ({"prompt": "  "}, "The prompt is empty"),
        ({"prompt": "\ufeff\u200b\x00"}, "The prompt is empty"),
        ({"prompt": "x" * 20_001}, "20001 characters"),
        ({"width": 250}, "The width is 250; it should be a multiple of 16"),
        ({"height": 8192}, "The height is 8192"),
        ({"steps": 1}, "Steps is 1; it should lie between 2 and 500"),
        ({"seed": -1}, "Seed is -1"),
        ({"variants": 65}, "Variants is 65"),
        ({"guidance": math.nan}, "The guidance is nan"),
        ({"guidance": -1.0}, "The guidance is -1"),
    ],
)
def test_a_bad_value_fails_its_row_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    (bad,) = rows(values)
    assert isinstance(bad, BadRow)
    assert bad.problem.startswith(sentence) or sentence in bad.problem


def test_variants_are_rows_of_their_own_with_seeds_of_their_own() -> None:
    made = rows({"seed": 5}, variants=3)
    assert [(r.id, r.seed) for r in made if isinstance(r, Row)] == [("a.v1", 5), ("a.v2", 6), ("a.v3", 7)]


def test_a_template_builds_the_prompt_of_rows_that_have_none() -> None:
    template = "【主体】{title}【颜色】{color}"
    (made,) = rows({"prompt": None}, {"title": "马克杯 ", "color": "红色"}, template=template)
    assert isinstance(made, Row)
    assert made.prompt == "【主体】马克杯【颜色】红色"
    assert row({"prompt": "its own"}, template=template).prompt == "its own"


def test_a_template_over_an_empty_column_fails_the_row() -> None:
    (bad,) = rows({"prompt": None}, {"title": "Mug", "color": None}, template="{color} {title}")
    assert isinstance(bad, BadRow)
    assert "'color', which is empty" in bad.problem


@pytest.mark.parametrize("template", ["{color!r}", "{a.b}", "{a[0]}", "{}", "{color:>9}", "{color"])
def test_a_template_reads_columns_and_nothing_else(template: str) -> None:
    with pytest.raises(RequestError, match="prompt template"):
        TextTemplate(template, "prompt")
