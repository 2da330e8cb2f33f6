"""What rows of a manifest of source pictures ask for, before anybody looks at their pictures."""

from __future__ import annotations

import pytest

from tasks.kinds.decompose.picture_rows import LayerDefaults, asked_of

DEFAULTS = LayerDefaults(
    layers=4,
    resolution=640,
    steps=8,
    guidance=2.0,
    negative_prompt=" ",
    profile="none",
    seed=0,
    fewest_steps=2,
    size_multiple=16,
)


@pytest.mark.parametrize(
    ("caption", "taken"), [(" a mug ", "a mug"), (None, ""), (" ", ""), ("\ufeff", ""), ("\u200b\x07", "")]
)
def test_a_caption_that_shows_nothing_is_none_so_that_one_is_written(caption: str | None, taken: str) -> None:
    assert asked_of({"id": "a", "caption": caption}, DEFAULTS).prompt == taken
