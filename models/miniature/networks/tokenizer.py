"""The miniature's two tokenizers, trained on its own captions.

The library's pipeline drops the first 34 tokens of every prompt, because that is how long its template's opening is in
Qwen2.5-VL's vocabulary. So the opening has to be 34 tokens in this vocabulary too: enough copies of the template are
in the training texts for each of its words to become a token.
"""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)  # QwenImagePipeline.prompt_template_encode, diffusers 0.42.1
OPENING, CLOSING = TEMPLATE.split("{}")
DROPPED = 34  # QwenImagePipeline.prompt_template_encode_start_idx

EDIT_TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)  # QwenImageEditPlusPipeline.prompt_template_encode, diffusers 0.42.1
EDIT_OPENING = EDIT_TEMPLATE.split("{}")[0] + "Picture 1: <|vision_start|>"  # before the first picture's tokens
EDIT_DROPPED = 64  # QwenImageEditPlusPipeline.prompt_template_encode_start_idx; here the opening is longer
PICTURE_END = "<|vision_end|>"
SECOND_PICTURE = PICTURE_END + "Picture 2: <|vision_start|>"  # between the tokens of two pictures

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
PROMPT_VOCABULARY = 2048
CLIP_VOCABULARY = 2048
CLIP_SPECIAL = ("<pad>", "<start>", "<end>")


def prompt_tokenizer(texts: Iterable[str]) -> Qwen2Tokenizer:
    """Train the tokenizer of `QwenImagePipeline`: Qwen2's own normaliser and splitting, fewer merges.

    Raises:
        ValueError: if the template's opening did not come out as 34 tokens.
    """
    plain = TEMPLATE.replace("<|im_start|>", "").replace("<|im_end|>", "").format("a")
    splitter = Qwen2Tokenizer()._tokenizer
    splitter.train_from_iterator(
        [*texts, *[plain] * 5000],
        trainers.BpeTrainer(
            vocab_size=PROMPT_VOCABULARY - len(SPECIAL),
            min_frequency=3,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    trained = json.loads(splitter.to_str())["model"]
    ranked = sorted((token for token in trained["vocab"] if token not in SPECIAL), key=trained["vocab"].get)
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(ranked)},
        merges=[tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in trained["merges"]],
        extra_special_tokens=list(SPECIAL[1:]),
        padding_side="right",
        model_max_length=2048,
    )
    for prompt in ("", "a red mug on a white background", "红色杯子"):
        opening = tokenizer(TEMPLATE.format(prompt)).input_ids[:DROPPED]
        if opening != tokenizer(OPENING).input_ids:
            raise ValueError(
                f"the template's opening became {len(tokenizer(OPENING).input_ids)} tokens, but the pipeline drops "
                f"{DROPPED}: train the tokenizer on more texts, or with a larger vocabulary"
            )
    return tokenizer


def clip_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer of the CLIP model.

    Lower-cased bytes, every Chinese character and every digit on its own, a start and an end around every text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Prepend(" ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}|\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=CLIP_VOCABULARY,
            min_frequency=3,
            show_progress=False,
            special_tokens=list(CLIP_SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    pad, start, end = CLIP_SPECIAL
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        model_max_length=context,
        padding_side="right",
    )
