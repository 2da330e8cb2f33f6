"""Every pipeline that packshot knows is of exactly one family, whose rules are its own."""

from collections import Counter

from models.architectures.architecture_registry import ARCHITECTURES, architecture_of, rules_of
from models.pipelines import LAYERED, PIPELINES, TEXT_TO_IMAGE


def test_every_pipeline_is_of_one_family_that_says_how_it_differs() -> None:
    known = Counter(name for architecture in ARCHITECTURES for name in architecture.rules)

    assert known == Counter(PIPELINES.keys())
    for name, pipeline in PIPELINES.items():
        assert rules_of(name).pipeline is pipeline
        assert "{}" in rules_of(name).template
        assert architecture_of(name).rules[name] is rules_of(name)


def test_what_a_pipeline_takes_and_gives_shows_in_what_a_row_of_it_takes() -> None:
    drawn, layered = (pipeline.defaults.workload for pipeline in (TEXT_TO_IMAGE, LAYERED))

    assert (drawn.condition_sizes, drawn.shape.layers, drawn.image_tokens(16)) == ((), 0, 4096)
    assert (layered.condition_sizes, layered.shape.layers, layered.image_tokens(16)) == (((640, 640),), 4, 6 * 1600)
