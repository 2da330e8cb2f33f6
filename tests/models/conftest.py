"""A Qwen-Image and a Qwen-Image-Layered with random weights, small enough to be built for every test run."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    QwenImageControlNetModel,
    QwenImageEditPlusPipeline,
    QwenImageLayeredPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_layered
from PIL import Image
from safetensors.torch import save_file
from tokenizers import pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from models.checkpoints.checkpoint import Checkpoint, find_checkpoint
from models.engines.decomposer import Decomposer
from models.engines.engine import Engine
from models.engines.generator import Generator
from models.loading.component import loading
from models.miniature.networks.architecture import new_scheduler
from models.requests import PictureRequest, Shape
from models.transformer.predictor import Conditions

torch.set_num_threads(1)

SHAPE = Shape(width=64, height=48, steps=4, guidance=4.0)
LEVELS = 1  # of 255: how far rounding moves a pixel in float32 (a mask, a batch mate or a single-frame VAE)
MIXED = ["a mug", "a red mug", "a kettle on white", "红色的杯子", "a " * 30, "b", "a blue hat", "a red mug, left"]
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


def collect(batches: Iterable[list[Any]], count: int) -> list[Any]:
    """What an engine yielded, in the order of what was asked for; there must be exactly one of each."""
    ended = sorted((one for batch in batches for one in batch), key=lambda one: one.index)
    assert [one.index for one in ended] == list(range(count))
    return ended


def distance(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def break_forward(model: Engine, monkeypatch: pytest.MonkeyPatch, fault: Callable[[int], None]) -> list[int]:
    """Call `fault` with the batch size before every step's prediction; return the batch sizes that it saw."""
    condition, sizes = model.predictor.condition, []

    def faulty(*args: Any) -> Conditions:
        conditions = condition(*args)
        predict = conditions.predict

        def watched(step: int, latents: torch.Tensor, *more: Any) -> torch.Tensor:
            sizes.append(len(latents))
            fault(sizes[-1])
            return predict(step, latents, *more)

        monkeypatch.setattr(conditions, "predict", watched)
        return conditions

    monkeypatch.setattr(model.predictor, "condition", faulty)
    return sizes


def no_worse(ours: np.ndarray, theirs: np.ndarray, exact: np.ndarray) -> bool:
    """Whether a picture in low precision is as near to the one in float32 as diffusers' own in low precision."""
    errors = [np.abs(one.astype(int) - exact).mean() for one in (ours, theirs)]
    assert errors[1] > 0
    return bool(errors[0] <= 1.1 * errors[1])


def request(
    prompt: str,
    seed: int = 0,
    shape: Shape = SHAPE,
    negative_prompt: str = " ",
    control: np.ndarray | None = None,
) -> PictureRequest:
    return PictureRequest(prompt, negative_prompt, seed, shape, control)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save_pretrained` writes for Qwen-Image: the same classes and files, in the small."""
    return save_qwen_image(tmp_path_factory.mktemp("tiny-qwen-image"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Checkpoint:
    return find_checkpoint(str(tiny_folder))


@pytest.fixture(scope="session")
def controlnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save_pretrained` writes for a ControlNet of the tiny Qwen-Image."""
    return save_controlnet(tmp_path_factory.mktemp("tiny-controlnet"))


@pytest.fixture
def generator(tiny: Checkpoint) -> Generator:
    return Generator.load(tiny, device="cpu")


@pytest.fixture(scope="session")
def stock(tiny_folder: Path) -> QwenImagePipeline:
    """diffusers' own pipeline on the same checkpoint."""
    return open_stock(tiny_folder)


@pytest.fixture(scope="session")
def tiny_layered_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save_pretrained` writes for Qwen-Image-Layered, with a text encoder that sees and captions."""
    return save_layered(tmp_path_factory.mktemp("tiny-qwen-image-layered"), tiny_vae(input_channels=4))


@pytest.fixture(scope="session")
def tiny_layered(tiny_layered_folder: Path) -> Checkpoint:
    return find_checkpoint(str(tiny_layered_folder), pipeline="QwenImageLayeredPipeline")


@pytest.fixture
def decomposer(tiny_layered: Checkpoint) -> Decomposer:
    return Decomposer.load(tiny_layered, device="cpu")


@pytest.fixture(scope="session")
def toy_resolutions() -> Iterator[None]:
    """Let the resolutions that stock's layered pipeline insists on, 640 and 1024, stand for 64 and 102."""
    full_size = pipeline_qwenimage_layered.calculate_dimensions

    def toy_size(area: int, ratio: float) -> tuple[int, int]:
        width, height = full_size((int(area**0.5) // 10) ** 2, ratio)
        return width, height

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_qwenimage_layered, "calculate_dimensions", toy_size)
        yield


@pytest.fixture(scope="session")
def stock_layered(tiny_layered_folder: Path, toy_resolutions: None) -> QwenImageLayeredPipeline:  # noqa: ARG001
    """diffusers' own layered pipeline on the same checkpoint; captions without chance."""
    pipeline = open_stock(tiny_layered_folder)
    pipeline.text_encoder.generation_config.do_sample = False
    return pipeline


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP in open_clip's own layout, which reads 16 tokens."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    model_cfg = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**model_cfg)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    return folder


def open_stock(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """diffusers' own pipeline on a checkpoint, of whichever class that is."""
    with loading():
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_qwen_image(folder: Path) -> Path:
    """Save a random Qwen-Image; returns the folder."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    with loading():
        pipeline = QwenImagePipeline(
            scheduler=new_scheduler(),
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(tokenizer),
            tokenizer=tokenizer,
            transformer=tiny_transformer(),
        )
        pipeline.save_pretrained(folder)
    return folder


def save_controlnet(folder: Path, seed: int = 2) -> Path:
    """Save a random ControlNet, of half the tiny transformer's blocks; returns the folder."""
    torch.manual_seed(seed)
    controlnet = QwenImageControlNetModel(
        num_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 6, 6)
    )
    # diffusers starts these at zero, with which control pictures change nothing; here they are to show.
    torch.nn.init.normal_(controlnet.controlnet_x_embedder.weight, std=5)
    for layer in controlnet.controlnet_blocks:
        torch.nn.init.normal_(layer.weight, std=0.5)
    controlnet.save_pretrained(folder)
    return folder


def save_layered(folder: Path, vae: AutoencoderKLQwenImage, *, sees: bool = True) -> Path:
    """Save a random Qwen-Image-Layered around `vae`; returns the folder."""
    torch.manual_seed(1)
    tokenizer = tiny_tokenizer()
    with loading():
        processor = Qwen2VLProcessor(
            Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112), tokenizer, Qwen2VLVideoProcessor()
        )
        pipeline = QwenImageLayeredPipeline(
            scheduler=new_scheduler(),
            vae=vae,
            text_encoder=tiny_text_encoder(tokenizer),
            tokenizer=tokenizer,
            processor=processor if sees else None,
            transformer=tiny_transformer(2.0, use_layer3d_rope=True, use_additional_t_cond=True),
        )
        pipeline.save_pretrained(folder)
    return folder


def save_edit(
    folder: Path,
    pipeline_class: type[DiffusionPipeline] = QwenImageEditPlusPipeline,
    *,
    zero_cond_t: bool = True,
    **sampling: float | bool,
) -> Path:
    """Save a random Qwen-Image-Edit whose own settings are `sampling`; returns the folder."""
    torch.manual_seed(3)
    tokenizer = tiny_tokenizer()
    size = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    with loading():
        pipeline = pipeline_class(
            scheduler=new_scheduler(),
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(tokenizer),
            tokenizer=tokenizer,
            processor=Qwen2VLProcessor(Qwen2VLImageProcessor(**size), tokenizer, Qwen2VLVideoProcessor()),
            transformer=tiny_transformer(2.0, zero_cond_t=zero_cond_t),
        )
        pipeline.save_pretrained(folder)
    settings = {"resolution": 64, "vision_resolution": 96, "steps": 2, "guidance": 4.0, **sampling}
    (folder / "sampling_config.json").write_text(json.dumps(settings))
    return folder


def tiny_tokenizer() -> Qwen2Tokenizer:
    """A byte-pair tokenizer in which the template's beginning takes 34 tokens, as in Qwen's own."""
    template = TEMPLATE.replace("<|im_start|>", "").replace("<|im_end|>", "")
    backend = Qwen2Tokenizer()._tokenizer  # Qwen's own normaliser and pre-tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=700, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([template.format("a red mug on a white background")] * 50, trainer)
    learned = json.loads(backend.to_str())["model"]
    words = [word for word in sorted(learned["vocab"], key=learned["vocab"].get) if word not in SPECIAL_TOKENS]
    tokenizer = Qwen2Tokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[tuple(merge) for merge in learned["merges"]],
        extra_special_tokens=SPECIAL_TOKENS[1:],
        padding_side="right",
        model_max_length=4096,
    )
    assert len(tokenizer(TEMPLATE.split("{}")[0]).input_ids) == 34
    return tokenizer


def tiny_text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    width = 32
    text_config = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision_config = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": width}
    ids = dict(zip(("vision_start_token_id", "vision_end_token_id", "image_token_id"), SPECIAL_TOKENS[3:], strict=True))
    config = Qwen2_5_VLConfig(
        text_config=text_config,
        vision_config=vision_config | {"fullatt_block_indexes": [0]},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def tiny_transformer(scale: float = 1.5, **more: Any) -> QwenImageTransformer2DModel:
    transformer = QwenImageTransformer2DModel(
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
        **more,
    )
    with torch.no_grad():  # larger than the default initialisation, so that prompts, seeds and sources show
        for parameter in transformer.parameters():
            parameter.mul_(scale)
    return transformer


def tiny_vae(**more: Any) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)  # the same weights whichever tests ran before
    vae = AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1, **more)
    with torch.no_grad():
        vae.quant_conv.weight.mul_(10)  # so that what is encoded shows
    return vae


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A source of four by four smoothed patches, opaque, half-transparent and clear ones, [H, W, 4]."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    patches[..., 3] = patches[..., 3] // 86 * 127
    return np.array(Image.fromarray(patches).resize((width, height), Image.Resampling.BILINEAR))
