"""What a model's parts hold, wherever they are."""

import pytest

from models.checkpoints.checkpoint import Checkpoint
from models.engines.generator import Generator
from models.memory.memory_breakdown import format_breakdown, memory_breakdown
from models.placement_names import WantedPlacement
from models.requests import Shape
from tests.models.conftest import request


@pytest.mark.parametrize(("placement", "of_text"), [("resident", True), ("streamed", True)])
def test_every_part_says_what_it_holds(tiny: Checkpoint, placement: WantedPlacement, of_text: bool) -> None:
    generator = Generator.load(tiny, device="cpu", placement=placement)
    before = memory_breakdown(generator.components, generator.predictor)
    list(generator.render([request("a mug", shape=Shape(32, 32, 2, 1.0))]))
    after = memory_breakdown(generator.components, generator.predictor)

    assert {"transformer", "VAE"} <= before.keys()
    assert ("text encoder" in before) == of_text
    assert "modulations of its schedules" in after
    assert after["VAE"] == before["VAE"] == sum(p.nbytes for p in generator.components.vae.parameters())
    if placement == "streamed":
        assert after["transformer"] > before["transformer"]  # a slot or two


def test_a_breakdown_is_formatted_in_words() -> None:
    assert format_breakdown({"transformer": 3 * 2**30, "VAE": 2**28}) == "transformer 3.0 GiB, VAE 0.2 GiB"
