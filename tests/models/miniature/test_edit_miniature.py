"""An edit miniature before any training: its parts compute as the libraries do, and it shares what it has in common."""

import copy
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline, QwenImageTransformer2DModel
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.architectures.qwen_image.single_frame import single_frame
from models.checkpoints.checkpoint import MINIATURE
from models.loading.component import load_part, loading
from models.miniature.datasets.edit_pairs import Instructions, Pairs
from models.miniature.networks.architecture import (
    EditSampling,
    new_edit_transformer,
    new_processor,
    new_seeing_encoder,
)
from models.miniature.networks.tokenizer import EDIT_DROPPED, EDIT_OPENING, EDIT_TEMPLATE
from models.miniature.train import Training
from models.miniature.training.denoiser import (
    Batch,
    Course,
    Denoiser,
    Teacher,
    block_forward,
    difference,
    flow_loss,
    one_by_one,
    relative_difference,
)
from models.miniature.training.edit_trials import EditTrial, edit_trials, edited, pixels_of, referring_trials
from models.miniature.training.editing import (
    HEAVIEST,
    LENGTHS,
    STRONG,
    Conditioner,
    edit_batch,
    lessons_of,
    weights_of,
)
from models.miniature.training.export import EDIT, export_edit
from models.miniature.training.sight import patches_of, sight_difference

BASE = MINIATURE / "qwen-image"
LAST_TEXT = re.compile(r"add_q_proj|norm_added_q|to_add_out|txt_mlp|txt_mod")
PIPELINE = "diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus"


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return Qwen2Tokenizer.from_pretrained(BASE / "tokenizer")


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """Anything but what it started from, in what will be trained."""
    torch.manual_seed(0)
    with loading():
        reader = Qwen2_5_VLForConditionalGeneration.from_pretrained(BASE / "text_encoder").float()
        denoiser = Denoiser(new_seeing_encoder(reader).eval(), new_edit_transformer(BASE / "transformer"))
    with torch.no_grad():
        for parameter in denoiser.transformer.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return denoiser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, denoiser: Denoiser, tokenizer: Qwen2Tokenizer) -> Path:
    with loading():
        return export_edit(tmp_path_factory.mktemp("weights"), BASE, denoiser, tokenizer, EditSampling())


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> QwenImageEditPlusPipeline:
    with loading():
        loaded = QwenImageEditPlusPipeline.from_pretrained(folder, dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def trials() -> list[EditTrial]:
    return edit_trials(2, "en", 0)


def test_the_template_is_the_pipelines_own(pipeline: QwenImageEditPlusPipeline, tokenizer: Qwen2Tokenizer) -> None:
    assert pipeline.prompt_template_encode == EDIT_TEMPLATE
    assert pipeline.prompt_template_encode_start_idx == EDIT_DROPPED
    assert len(tokenizer(EDIT_OPENING).input_ids) > EDIT_DROPPED


def test_diffusers_loads_it_whole_and_only_what_is_new_takes_room(
    folder: Path, pipeline: QwenImageEditPlusPipeline, denoiser: Denoiser
) -> None:
    assert folder.name == EDIT
    assert pipeline.transformer.config.zero_cond_t
    for ours, theirs in (
        (denoiser.transformer, pipeline.transformer),
        (denoiser.text_encoder, pipeline.text_encoder),
    ):
        expected = copy.deepcopy(ours).half().float().state_dict()
        assert all((expected[name] == tensor).all() for name, tensor in theirs.state_dict().items())
    assert sum(path.lstat().st_size for path in folder.rglob("*")) < 0.6 * 2**20


def test_what_it_shares_are_links_of_files_so_that_whoever_lists_the_folder_finds_them(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    weights = {name for name in files if name.endswith(".safetensors")}
    assert weights == {
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    own = {"text_encoder/model-00002-of-00002.safetensors"}
    assert {name for name in weights if not files[name].is_symlink()} == own
    assert {"tokenizer/tokenizer.json", "processor/tokenizer.json", "vae/config.json"} <= set(files)


def test_the_qwen_image_that_it_is_made_from_stays_as_it_is_where_it_lies_elsewhere(folder: Path) -> None:
    name = "transformer/diffusion_pytorch_model.safetensors"
    link, drawing = folder / name, folder.parent / BASE.name / name
    assert link.is_symlink()
    assert link.samefile(drawing)
    assert drawing.read_bytes() != (BASE / name).read_bytes()


def test_nothing_tells_where_it_was_made(folder: Path) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.json")}
    assert [path for path, text in texts.items() if str(folder.parent) in text or str(BASE) in text] == []


def test_packshot_loads_its_parts_as_diffusers_does(folder: Path, pipeline: QwenImageEditPlusPipeline) -> None:
    for part in ("transformer", "text_encoder"):
        theirs = getattr(pipeline, part)
        ours = load_part(type(theirs), folder / part, torch.device("cpu"), torch.float32)
        expected = theirs.state_dict()
        assert all((expected[name] == tensor).all() for name, tensor in ours.state_dict().items())


def test_qwen_image_draws_with_the_transformer_that_edits(folder: Path, denoiser: Denoiser) -> None:
    with loading():
        drawing = QwenImageTransformer2DModel.from_pretrained(folder.parent / BASE.name / "transformer")
    assert not drawing.config.zero_cond_t
    latents, embeds = torch.randn(2, 48, 96), torch.randn(2, 5, 192)
    editing = copy.deepcopy(denoiser.transformer).half()
    given = {
        "hidden_states": latents,
        "encoder_hidden_states": embeds,
        "encoder_hidden_states_mask": torch.ones(2, 5, dtype=torch.bool),
        "timestep": torch.tensor([0.3, 0.8]),
        "img_shapes": [[(1, 6, 8)]] * 2,
        "return_dict": False,
    }
    with torch.no_grad():
        assert (drawing.float()(**given)[0] - editing.float()(**given)[0]).abs().max() < 1e-4


def test_it_sees_and_computes_as_the_libraries_do(denoiser: Denoiser, tokenizer: Qwen2Tokenizer) -> None:
    torch.manual_seed(1)
    for pictures in (1, 2):
        assert sight_difference(denoiser.text_encoder, tokenizer, pictures) < 1e-4
        assert difference(denoiser, tokenizer, 1 + pictures) < 1e-4


def cut_by_the_processor(tokenizer: Qwen2Tokenizer, pictures: torch.Tensor) -> torch.Tensor:
    """What the text encoder is shown of pictures uint8 [N, H, W, 3], as the library does it: through 8 bits."""
    processor, resizer = new_processor(tokenizer), VaeImageProcessor(vae_scale_factor=32)
    shown = [resizer.resize(Image.fromarray(picture), 384, 384) for picture in pictures.numpy()]
    cut = [processor(text=["<|image_pad|>"], images=[one], return_tensors="pt")["pixel_values"] for one in shown]
    return torch.stack(cut)


def test_pictures_are_cut_as_the_processor_cuts_them(tokenizer: Qwen2Tokenizer, trials: list[EditTrial]) -> None:
    picture = torch.from_numpy(trials[0].source.picture)[None]
    (expected,) = cut_by_the_processor(tokenizer, picture)
    found = patches_of(picture)[0]
    assert found.shape == expected.shape
    assert float((found - expected).abs().mean()) < 0.02


@pytest.mark.parametrize(("guidance", "pictures"), [(1.0, 1), (2.0, 1), (1.0, 2)])
def test_many_are_edited_together_as_the_pipeline_edits_one(
    pipeline: QwenImageEditPlusPipeline, trials: list[EditTrial], guidance: float, pictures: int
) -> None:
    trials = trials if pictures == 1 else referring_trials(2, "en", 0)
    shown, _ = pixels_of(trials, torch.device("cpu"))
    instructions = [trial.instruction for trial in trials]
    denoiser = Denoiser(pipeline.text_encoder, pipeline.transformer)
    cut = partial(cut_by_the_processor, pipeline.tokenizer)  # or guidance strengthens what 8 bits of a resized one miss
    with patch("models.miniature.training.editing.patches_of", cut):
        made = edited(pipeline.vae, denoiser, pipeline.tokenizer, shown, instructions, EditSampling(256, 2, guidance))
    with patch(f"{PIPELINE}.VAE_IMAGE_SIZE", 256 * 256):
        stock = pipeline(
            image=[Image.fromarray(picture) for picture in shown[1].numpy()],
            prompt=trials[1].instruction,
            negative_prompt=" " if guidance > 1 else None,
            true_cfg_scale=guidance,
            num_inference_steps=2,
            width=256,
            height=256,
            generator=torch.Generator().manual_seed(1),
        ).images[0]
    assert np.abs(np.asarray(stock).astype(int) - made[1].numpy()).max() <= 1


def test_training_goes_on_where_it_stopped(
    denoiser: Denoiser,
    tokenizer: Qwen2Tokenizer,
    pipeline: QwenImageEditPlusPipeline,
    trials: list[EditTrial],
    tmp_path: Path,
) -> None:
    lessons = [
        lesson
        for some in (trials, referring_trials(2, "en", 0))
        for lesson in lessons_of(
            single_frame(copy.deepcopy(pipeline.vae)), pairs_of(some), Conditioner(denoiser.text_encoder, tokenizer)
        )
    ]
    assert [lesson.embeds.shape[1] for lesson in lessons] == [*LENGTHS.values()]
    assert [lesson.share for lesson in lessons] == [pytest.approx(0.85 * 0.84), 0.15]
    transformer = copy.deepcopy(denoiser.transformer)
    before = {name: weight.clone() for name, weight in transformer.state_dict().items()}
    course = Course("edit", transformer, 1e-9, tmp_path, float("inf"), 1e-3)
    course.stage.seconds = 3.0
    course.run(lambda: edit_batch(course, lessons), lambda _: "")
    changed = {name for name, weight in transformer.named_parameters() if (weight != before[name]).any()}
    same = {name for name, _ in transformer.named_parameters()} - changed
    # Nothing comes of the last block's text but keys and values, so that the rest of it isn't learned.
    assert all(name.startswith("transformer_blocks.7.") and LAST_TEXT.search(name) for name in same)

    again = Course("edit", copy.deepcopy(denoiser.transformer), 6.0, tmp_path, float("inf"), 1e-3)
    assert again.stage.count == course.stage.count > 0
    assert all(
        (one == two).all() for one, two in zip(again.transformer.parameters(), transformer.parameters(), strict=True)
    )


def test_a_teacher_says_how_to_draw_and_nothing_of_edits(denoiser: Denoiser) -> None:
    teacher = Teacher(copy.deepcopy(denoiser.transformer).requires_grad_(False))
    torch.manual_seed(1)
    config = denoiser.transformer.config
    latents, source = torch.randn(2, 2, 12, config.in_channels)
    told = torch.randn(2, 5, config.joint_attention_dim)
    drawing = Batch(latents, told, torch.ones(2, 5, dtype=torch.bool), (3, 4))
    edit = replace(drawing, source=source)

    def loss(batch: Batch, taught: Teacher | None) -> float:
        torch.manual_seed(2)
        return flow_loss(denoiser.transformer, batch, block_forward, taught).item()

    assert loss(drawing, teacher) < 1e-9  # it draws as its teacher does
    assert loss(drawing, None) > 0.1
    assert loss(edit, teacher) == loss(edit, None) > 0.1

    parameters = [each for each in denoiser.transformer.parameters() if each.requires_grad]
    one_by_one(lambda batch: flow_loss(denoiser.transformer, batch, block_forward, teacher), drawing, parameters)
    gradients = [each.grad for each in parameters if each.grad is not None]
    assert not any(each.any() for each in gradients)
    assert relative_difference(gradients, gradients) == 0
    denoiser.transformer.zero_grad(set_to_none=True)


def test_an_edit_counts_the_more_the_less_it_changes(
    denoiser: Denoiser, tokenizer: Qwen2Tokenizer, pipeline: QwenImageEditPlusPipeline, trials: list[EditTrial]
) -> None:
    sources = torch.zeros(3, 4, 8)
    strong, faint, fainter = weights_of(sources, sources + torch.tensor([1.0, 0.4, 0.01])[:, None, None]).tolist()
    assert strong == 1
    assert faint == pytest.approx(STRONG / 0.16)
    assert fainter == HEAVIEST

    (lesson,) = lessons_of(
        single_frame(copy.deepcopy(pipeline.vae)), pairs_of(trials), Conditioner(denoiser.text_encoder, tokenizer)
    )
    course = SimpleNamespace(rows=lambda *_: 4)
    batch = edit_batch(course, [lesson])
    assert batch.weights is not None

    def loss(batch: Batch) -> float:
        torch.manual_seed(2)
        return flow_loss(denoiser.transformer, batch, block_forward).item()

    again = batch.copied()
    assert len(again.tensors) == 5
    assert all((one == two).all() and one is not two for one, two in zip(again.tensors, batch.tensors, strict=True))
    assert loss(again) == loss(batch)
    assert loss(replace(batch, weights=torch.full((4,), 2.0))) == pytest.approx(2 * loss(replace(batch, weights=None)))


def test_a_second_picture_follows_the_source(
    denoiser: Denoiser, tokenizer: Qwen2Tokenizer, pipeline: QwenImageEditPlusPipeline
) -> None:
    (lesson,) = lessons_of(
        single_frame(copy.deepcopy(pipeline.vae)),
        pairs_of(referring_trials(2, "en", 0)),
        Conditioner(denoiser.text_encoder, tokenizer),
    )
    batch = edit_batch(SimpleNamespace(rows=lambda *_: 4), [lesson])
    assert batch.tokens == 3 * 64
    sources = lesson.latents[lesson.shown[:, 0]].float()
    first = batch.source[:, None, :64] - sources[None]
    assert first.square().mean((2, 3)).min(1).values.max() < 0.01  # but for a little noise, it is one of the sources


def test_training_goes_on_from_an_editor_and_keeps_its_teacher_of_drawing(folder: Path, tmp_path: Path) -> None:
    training = Training(
        work=tmp_path,
        device=torch.device("cpu"),
        deadline=float("inf"),
        seconds={"edit": 1.0},
        weights=tmp_path / "weights",
        judge_path=Path("benchmarks/judge.safetensors"),
        wait=False,
        captions=0,
        processes=1,
        qwen_image=BASE,
        edit_from=folder,
    )
    training.pairs, training.drawings = [None], [None]
    given = {}

    def noted(name: str, transformer: torch.nn.Module, teacher: torch.nn.Module, *_: object) -> None:
        given.update(name=name, transformer=transformer.state_dict(), teacher=teacher.state_dict())
        raise StopIteration

    nothing = patch.multiple("models.miniature.train", edit_trials=lambda *_: [], referring_trials=lambda *_: [])
    with nothing, patch("models.miniature.train.train_editing", noted), pytest.raises(StopIteration):
        training.train_edit()
    assert given["name"] != "edit"  # whose state is that of the first round
    for part, place in (("transformer", folder), ("teacher", BASE)):
        expected = new_edit_transformer(place / "transformer").state_dict()
        assert all((expected[name] == tensor).all() for name, tensor in given[part].items())


def test_tensors_are_compared_by_the_length_of_them_all() -> None:
    ones, others = [torch.tensor([3.0, 0.0]), torch.tensor([1.0])], [torch.tensor([3.0, 4.0]), torch.tensor([1.0])]
    assert relative_difference(ones, others) == pytest.approx((16 / 26) ** 0.5)


def pairs_of(trials: list[EditTrial]) -> Pairs:
    sources, targets = pixels_of(trials, torch.device("cpu"))
    count = len(trials)
    shown = torch.arange(count * sources.shape[1]).view(count, -1)
    return Pairs(
        width=256,
        height=256,
        pictures=torch.cat([sources.flatten(0, 1), targets]),
        scenes=torch.zeros(shown.numel() + count, 8, dtype=torch.int16),
        asked=[Instructions([trial.instruction for trial in trials], shown, shown.numel() + torch.arange(count))],
    )


def test_an_instruction_that_is_too_long_is_left_out(
    denoiser: Denoiser, tokenizer: Qwen2Tokenizer, pipeline: QwenImageEditPlusPipeline, trials: list[EditTrial]
) -> None:
    pairs = pairs_of(trials)
    pairs.asked[0].texts[0] = "make it red, please, " * 20
    (lesson,) = lessons_of(
        single_frame(copy.deepcopy(pipeline.vae)), pairs, Conditioner(denoiser.text_encoder, tokenizer)
    )
    assert lesson.shown.tolist() == [[1]]
