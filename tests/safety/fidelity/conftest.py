from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from models.miniature.world.world import Alteration, Drawing, Scene, draw_alike

SHOE = Scene("sneaker", "red", "plain", "plain", "white", "medium", "centre", "none")
Draw = Callable[..., tuple[Drawing, Drawing]]


@pytest.fixture(scope="session")
def shoe() -> Scene:
    """A red shoe on white: as a source, and with some of its attributes changed as a result."""
    return SHOE


@pytest.fixture(scope="session")
def drawn() -> Draw:
    """Draws one product twice: as the scene has it with `before`, and with `after`; `altered` makes it another one."""

    def draw(
        *,
        before: dict[str, str] | None = None,
        after: dict[str, str] | None = None,
        label: str = "",
        altered: Alteration | None = None,
    ) -> tuple[Drawing, Drawing]:
        scenes = [replace(SHOE, **(changes or {})) for changes in (before, after)]
        first = Alteration(label=label)
        source, result = draw_alike(scenes, Random(3), [first, altered or first])
        return source, result

    return draw


@pytest.fixture
def noise() -> Callable[[np.ndarray], np.ndarray]:
    """Adds what a decoder leaves: noise of 3 of 255."""
    generator = np.random.default_rng(5)

    def add(pixels: np.ndarray) -> np.ndarray:
        return np.clip(pixels + generator.normal(0, 3, pixels.shape) + 0.5, 0, 255).astype(np.uint8)

    return add
