"""The varlen transformer against diffusers' own forward, in float32."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers import QwenImageTransformer2DModel

from models.architectures.qwen_image.padded import Padded
from models.architectures.qwen_image.varlen import Varlen, VarlenConditions
from models.transformer.predictor import EncodedPicture

TIMESTEPS = torch.tensor([0.9, 0.87, 0.4])
LENGTHS = [(5, 2), (9, 2), (5, 3)]  # tokens of each row's prompt and negative prompt
WIDTH = 32  # of the embeddings


def transformer(
    *, layered: bool = False, zero_cond_t: bool = False, blocks: int = 3, heads: int = 6
) -> QwenImageTransformer2DModel:
    torch.manual_seed(0)
    model = QwenImageTransformer2DModel(
        num_layers=blocks,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
        use_layer3d_rope=layered,
        use_additional_t_cond=layered,
        zero_cond_t=zero_cond_t,
    )
    for parameter in model.parameters():
        parameter.requires_grad_(False).add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def texts(lengths: Sequence[tuple[int, ...]] = LENGTHS) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(length, WIDTH, generator=generator) for length in row] for row in lengths]


def latents(rows: int, tokens: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(rows, tokens, 64, generator=torch.Generator().manual_seed(seed))


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def pictures(*sizes: tuple[int, int]) -> list[EncodedPicture]:
    """Condition pictures of so many tokens in height and width."""
    return [
        EncodedPicture(latents(1, height * width, seed=10 * height + width)[0], (1, height, width))
        for height, width in sizes
    ]


SEEN = [pictures((4, 6)), [], pictures((2, 3), (6, 2))]  # of each row


def predicted_alone(
    model: QwenImageTransformer2DModel,
    frames: int,
    seen: Sequence[Sequence[EncodedPicture]],
    noise: torch.Tensor,
    step: int,
) -> torch.Tensor:
    """What diffusers' own forward predicts of what is made, row after row and branch after branch [2, 3, N, C]."""
    wanted = []
    for branch in range(2):
        for row, of_row in enumerate(texts()):
            shapes = [(1, 4, 6)] * frames + [picture.size for picture in seen[row]]
            (whole,) = model(
                hidden_states=torch.cat([noise[row], *(picture.latents for picture in seen[row])])[None],
                timestep=TIMESTEPS[step : step + 1],
                encoder_hidden_states=of_row[branch][None],
                img_shapes=[shapes],
                additional_t_cond=torch.zeros(1, dtype=torch.long) if model.config.use_additional_t_cond else None,
                return_dict=False,
            )
            wanted.append(whole[0, : noise.shape[1]])
    return torch.stack(wanted).unflatten(0, (2, 3))


@pytest.mark.parametrize("layered", [False, True])
def test_it_predicts_what_diffusers_predicts_for_each_row_alone(layered: bool) -> None:
    frames, seen = (2, [pictures((4, 6))] * 3) if layered else (1, [[]] * 3)
    noise = latents(3, 24 * frames)

    conditions = Varlen(transformer(layered=layered)).condition(texts(), [(1, 4, 6)] * frames, TIMESTEPS, seen)

    wanted = predicted_alone(transformer(layered=layered), frames, seen, noise, 2)
    assert relative(conditions.predict(2, noise), wanted) < 1e-6


@pytest.mark.parametrize("road", [Varlen, Padded])
@pytest.mark.parametrize("zero_cond_t", [False, True])
def test_rows_with_other_condition_pictures_go_together_each_as_diffusers_predicts_it_alone(
    road: type[Varlen | Padded], zero_cond_t: bool
) -> None:
    noise, model = latents(3, 24), transformer(zero_cond_t=zero_cond_t)

    conditions = road(transformer(zero_cond_t=zero_cond_t)).condition(texts(), [(1, 4, 6)], TIMESTEPS, SEEN)

    for step in (0, 2):
        wanted = predicted_alone(model, 1, SEEN, noise, step)
        predicted = conditions.predict(step, noise)
        assert predicted.shape == (2, 3, 24, 64)
        for row in range(3):
            assert relative(predicted[:, row], wanted[:, row]) < 1e-6


def test_condition_pictures_are_modulated_as_at_timestep_0_where_the_transformer_says_so() -> None:
    noise = latents(3, 24)
    with_t, with_0 = (
        Varlen(transformer(zero_cond_t=zero)).condition(texts(), [(1, 4, 6)], TIMESTEPS, SEEN).predict(0, noise)
        for zero in (False, True)
    )

    assert relative(with_t[:, 1], with_0[:, 1]) < 1e-6  # which has no condition picture
    assert relative(with_t[:, 0], with_0[:, 0]) > 1e-3


def test_condition_pictures_keep_their_modulation_in_a_schedule_longer_than_its_modulations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.architectures.qwen_image.modulations.STEPS_AT_ONCE", 2)
    noise, model = latents(3, 24), transformer(zero_cond_t=True)
    conditions = Varlen(transformer(zero_cond_t=True)).condition(texts(), [(1, 4, 6)], TIMESTEPS, SEEN)

    for step in (0, 2, 1):
        assert relative(conditions.predict(step, noise), predicted_alone(model, 1, SEEN, noise, step)) < 1e-6


def test_in_float8_condition_pictures_keep_their_modulation() -> None:
    noise, model = latents(3, 24), transformer(zero_cond_t=True)
    wanted = predicted_alone(model, 1, SEEN, noise, 0)

    predicted = Varlen(model, float8=True).condition(texts(), [(1, 4, 6)], TIMESTEPS, SEEN).predict(0, noise)

    assert 1e-4 < relative(predicted, wanted) < 0.05


def test_every_step_of_a_schedule_longer_than_its_modulations_is_modulated_as_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.architectures.qwen_image.modulations.STEPS_AT_ONCE", 2)
    noise, model = latents(3, 24), transformer()
    varlen = Varlen(model).condition(texts(), [(1, 4, 6)], TIMESTEPS)
    plain = Padded(model).condition(texts(), [(1, 4, 6)], TIMESTEPS)

    for step in (0, 1, 2, 0):
        assert relative(varlen.predict(step, noise), plain.predict(step, noise)) < 1e-6


def test_a_transformer_whose_weights_were_merged_is_still_diffusers_own() -> None:
    model, untouched = transformer(), transformer()
    Varlen(model)

    for name, parameter in untouched.state_dict().items():
        assert torch.equal(model.state_dict()[name], parameter)
    noise = latents(3, 24)
    one, other = (
        Padded(each).condition(texts(), [(1, 4, 6)], TIMESTEPS).predict(1, noise) for each in (model, untouched)
    )
    assert torch.equal(one, other)


def test_merging_weights_needs_no_second_copy_of_them() -> None:
    model = transformer()
    attn = model.transformer_blocks[0].attn
    varlen = Varlen(model)

    with varlen.blocks.turn(0) as block:
        qkv = block.image.qkv

    assert attn.to_q.weight.untyped_storage().data_ptr() == qkv.weight.untyped_storage().data_ptr()
    assert attn.to_v.weight.untyped_storage().data_ptr() == qkv.weight.untyped_storage().data_ptr()


def test_float8_is_near_and_gives_up_the_weights_that_it_replaces() -> None:
    noise, model = latents(3, 24), transformer()
    exact = Padded(model).condition(texts(), [(1, 4, 6)], TIMESTEPS).predict(1, noise)

    varlen = Varlen(model, float8=True)

    assert 1e-4 < relative(varlen.condition(texts(), [(1, 4, 6)], TIMESTEPS).predict(1, noise), exact) < 0.05
    assert model.transformer_blocks[0].img_mlp.net[2].weight.numel() == 0
    assert model.transformer_blocks[0].txt_mlp.net[2].weight.numel() > 0


# The step cache


def conditions(model: Varlen, rows: Sequence[int] = (0, 1, 2)) -> VarlenConditions:
    every = texts()
    return model.condition([every[row] for row in rows], [(1, 4, 6)], TIMESTEPS)


def cached(threshold: float, rows: Sequence[int] = (0, 1, 2)) -> tuple[VarlenConditions, VarlenConditions]:
    """The same rows without a step cache and with one."""
    model = transformer()
    return conditions(Varlen(model), rows), conditions(Varlen(model, step_cache=threshold), rows)


def counts(approximate: VarlenConditions) -> tuple[int, int]:
    return approximate.varlen.asked, approximate.varlen.computed


def test_a_step_cache_that_never_hits_changes_nothing() -> None:
    exact, approximate = cached(0.0)

    for step in range(3):
        noise = latents(3, 24, seed=step)
        assert relative(approximate.predict(step, noise), exact.predict(step, noise)) < 1e-6
    assert counts(approximate) == (9, 9)


def test_a_row_that_changes_little_sits_the_other_blocks_out() -> None:
    exact, approximate = cached(1e9)
    noise = latents(3, 24)

    first = approximate.predict(1, noise)
    again = approximate.predict(1, noise)
    later = approximate.predict(2, noise)

    assert relative(first, exact.predict(1, noise)) < 1e-6
    assert relative(again, first) < 1e-6  # nothing changed, so what was remembered is what would be computed
    assert relative(later, exact.predict(2, noise)) > 1e-3
    assert counts(approximate) == (9, 3)


def test_rows_are_judged_one_by_one_whoever_their_batch_mates_are() -> None:
    still, moving = latents(3, 24), latents(3, 24, seed=9)
    mixed = torch.stack([still[0], moving[1], still[2]])
    exact, approximate = cached(0.05)
    approximate.predict(1, still)

    predicted = approximate.predict(1, mixed)

    assert counts(approximate) == (6, 3 + 1)  # the second row alone
    assert relative(predicted[:, 1], exact.predict(1, mixed)[:, 1]) < 1e-6
    for row in (0, 2):
        _, alone = cached(0.05, [row])
        alone.predict(1, still[row : row + 1])
        assert relative(predicted[:, row], alone.predict(1, mixed[row : row + 1])[:, 0]) < 1e-6
        assert counts(alone) == (2, 1)


def test_what_a_row_remembers_is_renewed_when_it_is_computed_again() -> None:
    exact, approximate = cached(0.05)
    still, moving = latents(3, 24), latents(3, 24, seed=9)
    approximate.predict(1, still)
    approximate.predict(1, torch.stack([still[0], moving[1], still[2]]))

    predicted = approximate.predict(1, torch.stack([still[0], moving[1], moving[2]]))

    assert counts(approximate) == (9, 3 + 1 + 1)
    assert relative(predicted, exact.predict(1, torch.stack([still[0], moving[1], moving[2]]))) < 1e-6


def test_a_row_of_something_other_than_numbers_is_computed_and_not_hidden() -> None:
    _, approximate = cached(1e9)
    noise = latents(3, 24)
    approximate.predict(1, noise)
    noise[1] = torch.nan

    predicted = approximate.predict(1, noise)

    assert torch.isnan(predicted[:, 1]).all()
    assert torch.isfinite(predicted[:, [0, 2]]).all()
    assert counts(approximate) == (6, 3 + 1)


def test_rows_with_other_condition_pictures_are_judged_each_by_its_own_tokens() -> None:
    still, moving = latents(3, 24), latents(3, 24, seed=9)
    mixed = torch.stack([still[0], still[1], moving[2]])
    exact, approximate = (
        Varlen(transformer(zero_cond_t=True), step_cache=threshold).condition(texts(), [(1, 4, 6)], TIMESTEPS, SEEN)
        for threshold in (None, 0.05)
    )
    first = approximate.predict(1, still)

    predicted = approximate.predict(1, mixed)

    assert counts(approximate) == (6, 3 + 1)  # the last row alone
    assert relative(predicted[:, 2], exact.predict(1, mixed)[:, 2]) < 1e-6
    assert relative(predicted[:, :2], first[:, :2]) < 1e-6


def test_the_first_quarter_of_the_steps_is_never_sat_out() -> None:
    model = Varlen(transformer(), step_cache=1e9)
    eight = model.condition(texts(), [(1, 4, 6)], torch.linspace(1, 0.1, 8))

    computed = []
    for step in range(8):
        before = model.computed
        eight.predict(step, latents(3, 24))
        computed.append(model.computed - before)

    assert computed == [3, 3, 0, 0, 0, 0, 0, 0]


# The condition cache

STEPS = torch.linspace(1, 0.1, 6)


def alongside(
    every: int, rows: Sequence[int] = (0, 1, 2), steps: torch.Tensor = STEPS, **options: Any
) -> VarlenConditions:
    """Rows with other condition pictures, whose tokens are computed at every so many steps."""
    model, of_texts = Varlen(transformer(zero_cond_t=True), condition_cache=every, **options), texts()
    return model.condition([of_texts[row] for row in rows], [(1, 4, 6)], steps, [SEEN[row] for row in rows])


def through(conditions: VarlenConditions, rows: Sequence[int] = (0, 1, 2), moves: float = 0.1) -> torch.Tensor:
    """What is predicted at every step, of noise that moves a little from step to step [steps, branches, rows, N, C]."""
    start, towards = latents(3, 24)[list(rows)], latents(3, 24, seed=9)[list(rows)]
    return torch.stack([conditions.predict(step, start + moves * step * towards) for step in range(len(STEPS))])


def test_condition_pictures_that_are_computed_at_every_step_change_no_bit() -> None:
    without = Varlen(transformer(zero_cond_t=True)).condition(texts(), [(1, 4, 6)], STEPS, SEEN)

    assert torch.equal(through(alongside(1)), through(without))


def test_a_step_that_computes_condition_pictures_is_exact_and_one_between_is_near() -> None:
    exact, approximate = through(alongside(1)), through(alongside(2))

    apart = [relative(one, other) for one, other in zip(approximate, exact, strict=True)]

    assert max(apart[::2]) < 1e-6
    assert min(apart[1::2]) > 1e-4
    assert max(apart[1::2]) < 0.02


def test_condition_pictures_drift_further_the_rarer_they_are_computed() -> None:
    exact = through(alongside(1))
    drifts = [relative(through(alongside(every)), exact) for every in (2, 3, 6)]

    assert drifts == sorted(drifts)
    assert drifts[-1] < 0.05


def test_what_changes_nothing_leaves_what_was_kept_exact() -> None:
    conditions, noise = alongside(6), latents(3, 24)
    first = conditions.predict(1, noise)

    assert relative(conditions.predict(1, noise), first) < 1e-6


def test_a_row_without_condition_pictures_is_exact_beside_rows_whose_pictures_are_kept() -> None:
    exact, approximate = through(alongside(1)), through(alongside(3))

    assert relative(approximate[:, :, 1], exact[:, :, 1]) < 1e-6
    assert alongside(3, [1]).kept is None


@pytest.mark.parametrize("step_cache", [None, 0.05])
def test_a_row_is_the_same_alone_and_beside_others_whose_condition_pictures_are_kept(step_cache: float | None) -> None:
    together = through(alongside(2, step_cache=step_cache))
    for row in range(3):
        alone = through(alongside(2, [row], step_cache=step_cache), [row])
        assert relative(alone[:, :, 0], together[:, :, row]) < 1e-5


def test_condition_pictures_of_a_row_that_sits_a_step_out_are_computed_when_it_is_next_computed() -> None:
    conditions = alongside(2, steps=torch.full((6,), 0.5), step_cache=0.05)
    still, moving = latents(3, 24), latents(3, 24, seed=9)
    computed = []
    for step, noise in enumerate((still, still, still, moving, moving, moving)):
        before = conditions.kept.due(step)
        conditions.predict(step, noise)
        computed.append(sorted(before - conditions.kept.due(step)))

    # Steps 0 and 1 are never sat out; at step 2 the pictures are due, but only at step 3 does anything change.
    assert computed == [[0, 2], [], [], [0, 2], [], []]


def test_steps_that_nothing_sits_out_are_those_of_the_condition_cache_alone() -> None:
    assert relative(through(alongside(2, step_cache=0.0)), through(alongside(2))) < 1e-6


def test_in_float8_condition_pictures_are_kept_as_they_were_computed() -> None:
    exact, kept = through(alongside(1, float8=True)), through(alongside(2, float8=True))

    assert relative(kept[::2], exact[::2]) < 1e-6
    assert 1e-4 < relative(kept[1::2], exact[1::2]) < 0.02


@pytest.mark.parametrize("resident", [[], [0, 2]])
def test_blocks_that_are_streamed_keep_condition_pictures_as_those_that_stay(resident: list[int]) -> None:
    assert relative(through(alongside(2, resident=resident)), through(alongside(2))) < 1e-6


def test_the_bytes_of_what_is_kept_are_those_that_are_predicted() -> None:
    conditions = alongside(2)
    conditions.predict(0, latents(3, 24))

    tokens = [sum(picture.size[1] * picture.size[2] for picture in of_row) for of_row in SEEN]
    predicted = sum(conditions.varlen.kept_bytes(count, 2) for count in tokens)
    assert {block.nbytes for block in conditions.kept._blocks} == {predicted}
    assert Varlen(transformer(zero_cond_t=True)).kept_bytes(24, 2) == 0
