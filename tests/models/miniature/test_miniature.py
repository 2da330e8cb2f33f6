"""The shipped miniature: the libraries load it by themselves, it is small, and it draws what prompts ask for."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import QwenImagePipeline
from PIL import Image

from models.architectures.qwen_image.single_frame import single_frame
from models.loading.component import loading
from models.miniature.datasets.trials import pictures
from models.miniature.language.names import KIND_NAMES
from models.miniature.networks.tokenizer import DROPPED, OPENING, TEMPLATE
from models.miniature.world.world import KINDS

WEIGHTS = Path(__file__).parents[3] / "models" / "miniature" / "weights"
PROMPTS = {
    "vase": "a purple vase on a white background",
    "t-shirt": "绿色T恤，白底",
    "bottle": "a green bottle, white background",
    "table": "a blue table, light grey background",
    "suitcase": "a red suitcase on a light blue background",
    "umbrella": "product photo of a blue umbrella, white background",
}


@pytest.fixture(scope="module")
def pipeline() -> QwenImagePipeline:
    with loading():
        loaded = QwenImagePipeline.from_pretrained(WEIGHTS / "qwen-image", dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def clip() -> tuple:
    with loading():
        model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{WEIGHTS / 'clip'}")
        return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{WEIGHTS / 'clip'}")


def test_the_templates_opening_is_as_long_as_the_pipeline_drops(pipeline: QwenImagePipeline) -> None:
    opening = pipeline.tokenizer(OPENING).input_ids
    assert len(opening) == DROPPED == pipeline.prompt_template_encode_start_idx
    assert pipeline.prompt_template_encode == TEMPLATE
    for prompt in ("", " ", "A red mug", "红色杯子", "12 % off!"):
        assert pipeline.tokenizer(TEMPLATE.format(prompt)).input_ids[:DROPPED] == opening


def test_the_weights_stay_within_56_mib_and_hold_no_pickles() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.lstat().st_size for path in files) <= 56 * 2**20  # what they share counts once
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}


def test_the_checkpoint_says_how_to_sample_it() -> None:
    sampling = json.loads((WEIGHTS / "qwen-image" / "sampling_config.json").read_text(encoding="utf-8"))
    assert set(sampling) == {"width", "height", "steps", "guidance"}
    assert (sampling["width"], sampling["height"]) == (256, 256)


def test_it_draws_what_prompts_ask_for(pipeline: QwenImagePipeline, clip: tuple) -> None:
    model, preprocess, tokenizer = clip
    sampling = json.loads((WEIGHTS / "qwen-image" / "sampling_config.json").read_text(encoding="utf-8"))
    single_frame(pipeline.vae)
    made = pictures(pipeline, list(PROMPTS.values()), **sampling, batch=len(PROMPTS))
    with torch.no_grad():
        texts = model.encode_text(tokenizer([f"a photo of a {KIND_NAMES[kind]['en'][0]}" for kind in KINDS]), True)
        seen = model.encode_image(torch.stack([preprocess(Image.fromarray(each)) for each in made.numpy()]), True)
    found = [KINDS[index] for index in (seen @ texts.T).argmax(1).tolist()]
    assert sum(one == other for one, other in zip(found, PROMPTS, strict=True)) >= len(PROMPTS) - 1, found


def test_clip_loads_whatever_the_working_directory(
    clip: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with loading():
        model, _ = open_clip.create_model_from_pretrained(f"local-dir:{WEIGHTS / 'clip'}")
        ids = open_clip.get_tokenizer(f"local-dir:{WEIGHTS / 'clip'}")(["a handgun", "手枪"])
    assert ids.shape == (2, 77)
    with torch.no_grad():
        one, other = (each.encode_text(ids, normalize=True) for each in (model, clip[0]))
    assert np.allclose(one, other)
