"""What waits for a person is listed with what a person needs to answer."""

from __future__ import annotations

import io

from rich.console import Console

from flows.views.review_rows import show_waiting
from tasks.review.decide import Waiting


def said(*rows: Waiting) -> str:
    show_waiting(Console(file=(terminal := io.StringIO()), width=400), rows, "out/shop")
    return terminal.getvalue()


def test_an_edit_that_waits_is_listed_with_its_source_and_why_in_words() -> None:
    why = "A person has to compare the result with its source: how far the product was moved is 3 %, above 2 %."
    sources = ("masters/source.jpg", "masters/image2.jpg")
    text = said(Waiting("mug", "picture", {"fidelity_shift": 0.5}, why, "on white", "masters/picture.png", (), sources))
    assert [line.split(maxsplit=1) for line in text.splitlines()[1:6]] == [
        ["why", why],
        ["prompt", "on white"],
        ["source", "masters/source.jpg"],
        ["reference", "masters/image2.jpg"],
        ["picture", "masters/picture.png"],
    ]
    assert "packshot report --store out/shop" in text


def test_a_concept_that_asks_is_listed_by_how_much_it_is_over() -> None:
    text = said(Waiting("mug", "picture", {"toy_weapon": 0.25}, "It comes too close.", "a mug", "a.png", (), ()))
    assert "over      toy weapon by 0.250" in text
    assert "why  " not in text
