"""From prompts to what the transformer attends to: the text encoder's last hidden states, one tensor a conditioning."""

from collections.abc import Iterable, Iterator

import torch

from models.failure import Failure, apart
from models.loading.prompt_encoder import PromptEncoder
from models.requests import Conditioning

TEXT_BATCH_TOKENS = 4096  # one H200: 64 prompts of 98 tokens at once take 2.7 ms each, 8 take 3.0, one takes 18


def embed_prompts(
    encoder: PromptEncoder, prompts: Iterable[Conditioning], max_tokens: int
) -> tuple[dict[Conditioning, torch.Tensor], dict[Conditioning, Failure]]:
    """Embed prompts, each once.

    Args:
        max_tokens: a longer prompt fails, where stock would cut it without a word.

    Returns:
        the embeddings [T, D] of those that can be, in host memory; the failures of the others.

    Raises:
        ValueError: if a prompt has pictures, which this text encoder doesn't see.
    """
    distinct = sorted(set(prompts), key=lambda prompt: prompt.text)
    if any(prompt.pictures for prompt in distinct):
        raise ValueError("This text encoder reads texts alone; give conditionings without pictures.")
    ids, failures = apart(lambda some: tokenize(encoder, some), distinct)
    for prompt, tokens in list(ids.items()):
        if (count := len(tokens) - encoder.template_tokens) > max_tokens:
            message = f"A prompt of {count} tokens is longer than {max_tokens}; shorten it."
            failures[prompt] = Failure("prompt_too_long", message, retryable=False)
            del ids[prompt]
    with encoder.reading(), torch.inference_mode():
        embeds, failed = apart(lambda some: embed(encoder, {prompt: ids[prompt] for prompt in some}), [*ids])
    return embeds, failures | failed


def tokenize(encoder: PromptEncoder, prompts: Iterable[Conditioning]) -> dict[Conditioning, list[int]]:
    """Return the token ids of each distinct prompt, inside the pipeline's template; nothing is cut."""
    distinct = list(dict.fromkeys(prompts))
    if not distinct:
        return {}
    texts = [encoder.template.format(prompt.text) for prompt in distinct]
    return dict(zip(distinct, encoder.tokenizer(texts, verbose=False)["input_ids"], strict=True))


def embed(encoder: PromptEncoder, ids: dict[Conditioning, list[int]]) -> dict[Conditioning, torch.Tensor]:
    """Embed prompts, each once, in batches of neighbouring lengths.

    The encoder is causal: what stands to the right of a token doesn't reach it. So shorter prompts are filled up on the
    right, no mask is needed, and what was filled up is dropped. Launching a forward takes longer than most of its
    arithmetic, and a shard may hold a prompt of nearly every length.

    Args:
        ids: prompt → token ids, as `tokenize` gives them.

    Returns:
        prompt → its embedding [T, D] in host memory, without the template's own first tokens.
    """
    embeds: dict[Conditioning, torch.Tensor] = {}
    for some in _batches(ids):
        tokens = [torch.tensor(ids[prompt]) for prompt in some]
        input_ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(encoder.device)
        states = encoder.text_encoder(input_ids=input_ids, use_cache=False).last_hidden_state  # [B, T, D]
        kept = states[:, encoder.template_tokens :].to("cpu", encoder.dtype)
        for prompt, row in zip(some, kept, strict=True):
            embeds[prompt] = row[: len(ids[prompt]) - encoder.template_tokens].clone()
    return embeds


def _batches(ids: dict[Conditioning, list[int]]) -> Iterator[list[Conditioning]]:
    """Cut prompts, the shortest first, into batches of at most `TEXT_BATCH_TOKENS`, filling up included."""
    batch: list[Conditioning] = []
    for prompt in sorted(ids, key=lambda prompt: len(ids[prompt])):
        if batch and (len(batch) + 1) * len(ids[prompt]) > TEXT_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch
