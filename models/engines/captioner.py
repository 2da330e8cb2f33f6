"""Captions of pictures, written by the checkpoint's own vision-language model, many at a time."""

import copy
from collections import defaultdict
from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from transformers import GenerationConfig

from models.engines.attempts import Done, attempt
from models.failure import Failure
from models.loading.components import Captioner, Components
from models.requests import Pixels, layers_size
from models.sampling.latents import resized
from models.transformer.host_weights import brought_in

CAPTION_ROWS = 16
CAPTION_TOKENS = 512  # as in `QwenImageLayeredPipeline.get_image_caption` of diffusers 0.42.1


@dataclass(frozen=True)
class WrittenCaption:
    """What became of one picture: a caption, or a failure."""

    index: int  # its position among the pictures
    text: str | None
    failure: Failure | None
    seconds: float  # its share of its batch's time


def caption_pictures(
    components: Components,
    captioner: Captioner,
    sources: Sequence[Pixels],
    rows: MutableMapping[Hashable, int],
    *,
    resolution: int,
    use_en_prompt: bool,
    most: int = CAPTION_ROWS,
) -> Iterator[list[WrittenCaption]]:
    """Caption source pictures [H, W, 4], and yield each batch as it finishes; every picture yields one WrittenCaption.

    The prompt is the pipeline's own, and so is the picture that is shown: at the size it is decomposed at, on white
    where it is transparent. But the pipeline samples where the checkpoint says so, and here the likeliest token is
    taken, so that a picture always gets the same caption. Pictures of one size have prompts of one length: nothing is
    padded, and batch mates change a caption by rounding at most.

    Args:
        rows: how many pictures go together, by their size: remembered from call to call, beside other batch sizes.
        resolution: what the pictures will be decomposed at: see `layers_size`.
        use_en_prompt: whether to write in English, else in Chinese.
        most: the most pictures that go through the device together.

    Raises:
        DeviceLost: if the GPU is in a state that only a new process leaves.
    """
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, source in enumerate(sources):
        height, width = source.shape[:2]
        try:
            by_size[layers_size(width, height, resolution, components.token_pixels)].append(index)
        except ValueError as error:
            yield [WrittenCaption(index, None, Failure("internal", str(error), retryable=False), 0.0)]
    greedy = _greedy(captioner)
    prompt = captioner.prompt_en if use_en_prompt else captioner.prompt_cn
    with components.reading(), brought_in(captioner.model, components.device):
        for size, indices in by_size.items():

            def write(batch: list[int], size: tuple[int, int] = size) -> list[str]:
                return _write(captioner, prompt, greedy, [resized(sources[index], *size) for index in batch])

            key = ("caption", *size)
            count = rows.setdefault(key, most)
            batches = [indices[start : start + count] for start in range(0, len(indices), count)]
            for ended in attempt(batches, write, rows, key, components.device):
                if isinstance(ended, Done):
                    pairs = zip(ended.batch, ended.made, strict=True)
                    yield [WrittenCaption(index, text, None, ended.seconds) for index, text in pairs]
                else:
                    message = f"The model failed to caption this row's picture: {ended.line.rstrip('.')}."
                    failure = Failure(ended.cause, message, retryable=True)
                    yield [WrittenCaption(ended.row, None, failure, ended.seconds)]


def _greedy(captioner: Captioner) -> GenerationConfig:
    """The checkpoint's own settings without chance."""
    config = copy.deepcopy(captioner.model.generation_config)
    config.update(do_sample=False, temperature=None, top_p=None, top_k=None, max_new_tokens=CAPTION_TOKENS)
    return config


@torch.inference_mode()
def _write(captioner: Captioner, prompt: str, greedy: GenerationConfig, pictures: list[Image.Image]) -> list[str]:
    processor, model = captioner.processor, captioner.model
    asked = processor(text=[prompt] * len(pictures), images=pictures, padding=True, return_tensors="pt")
    answered = model.generate(**asked.to(model.device), generation_config=greedy)
    tokens = answered[:, asked["input_ids"].shape[1] :]
    texts = processor.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in texts]
