"""From prompts to what the transformer attends to: the text encoder's last hidden states, one tensor a conditioning."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from models.failure import Failure, apart
from models.loading.prompt_encoder import PromptEncoder
from models.requests import Conditioning, SeenPicture
from models.sampling.seen_pictures import Sight, positions, put_in, see, spread

TEXT_BATCH_TOKENS = 4096  # one H200: 64 prompts of 98 tokens at once take 2.7 ms each, 8 take 3.0, one takes 18


def embed_prompts(
    encoder: PromptEncoder, prompts: Iterable[Conditioning], max_tokens: int
) -> tuple[dict[Conditioning, torch.Tensor], dict[Conditioning, Failure]]:
    """Embed prompts with the pictures that they are read beside, each once, and each picture seen once.

    Args:
        max_tokens: a longer prompt fails, where stock would cut it without a word; its pictures don't count.

    Returns:
        the embeddings [T, D] of those that can be, in host memory; the failures of the others.

    Raises:
        ValueError: if a prompt has pictures, and the text encoder doesn't see.
    """
    distinct = sorted(set(prompts), key=lambda prompt: prompt.text)
    if encoder.eyes is None and any(prompt.pictures for prompt in distinct):
        raise ValueError("This text encoder reads texts alone; give conditionings without pictures.")
    ids, failures = apart(lambda some: tokenize(encoder, some), distinct)
    for prompt, tokens in list(ids.items()):
        if (count := len(tokens) - encoder.template_tokens) > max_tokens:
            message = f"A prompt of {count} tokens is longer than {max_tokens}; shorten it."
            failures[prompt] = Failure("prompt_too_long", message, retryable=False)
            del ids[prompt]
    with encoder.reading(), torch.inference_mode():
        seen, unseen = _see(encoder, ids)
        for prompt in [*ids]:
            if blind := next((unseen[picture] for picture in prompt.pictures if picture in unseen), None):
                failures[prompt] = blind
                del ids[prompt]
        embeds, failed = apart(lambda some: embed(encoder, {prompt: ids[prompt] for prompt in some}, seen), [*ids])
    return embeds, failures | failed


def _see(
    encoder: PromptEncoder, prompts: Iterable[Conditioning]
) -> tuple[dict[SeenPicture, Sight], dict[SeenPicture, Failure]]:
    if encoder.eyes is None:
        return {}, {}
    return see(encoder, encoder.eyes, (picture for prompt in prompts for picture in prompt.pictures))


def tokenize(encoder: PromptEncoder, prompts: Iterable[Conditioning]) -> dict[Conditioning, list[int]]:
    """Return the token ids of each distinct prompt, inside the pipeline's template; nothing is cut.

    A picture that is seen with a prompt has one token, before the prompt's own.
    """
    distinct = list(dict.fromkeys(prompts))
    if not distinct:
        return {}
    texts = [encoder.template.format(_shown(encoder, prompt) + prompt.text) for prompt in distinct]
    return dict(zip(distinct, encoder.tokenizer(texts, verbose=False)["input_ids"], strict=True))


def _shown(encoder: PromptEncoder, prompt: Conditioning) -> str:
    """Return what stands before a prompt for the pictures that are seen with it."""
    return "".join(encoder.rules.picture_text.format(number + 1) for number in range(len(prompt.pictures)))


def embed(
    encoder: PromptEncoder, ids: Mapping[Conditioning, list[int]], seen: Mapping[SeenPicture, Sight]
) -> dict[Conditioning, torch.Tensor]:
    """Embed prompts, each once, in batches of neighbouring lengths.

    The encoder is causal: what stands to the right of a token doesn't reach it. So shorter prompts are filled up on the
    right, no mask is needed, and what was filled up is dropped. Launching a forward takes longer than most of its
    arithmetic, and a shard may hold a prompt of nearly every length.

    Args:
        ids: prompt → token ids, as `tokenize` gives them.
        seen: what the vision tower makes of their pictures.

    Returns:
        prompt → its embedding [T, D] in host memory, without the template's own first tokens.
    """
    embeds: dict[Conditioning, torch.Tensor] = {}
    sights = {prompt: [seen[picture] for picture in prompt.pictures] for prompt in ids}
    whole = {prompt: spread(some, encoder.eyes, sights[prompt]) for prompt, some in ids.items()}
    for some in _batches(whole):
        states = _read(encoder, [whole[prompt] for prompt in some], [sights[prompt] for prompt in some])
        kept = states[:, encoder.template_tokens :].to("cpu", encoder.dtype)
        for prompt, row in zip(some, kept, strict=True):
            embeds[prompt] = row[: len(whole[prompt]) - encoder.template_tokens].clone()
    return embeds


def _read(encoder: PromptEncoder, rows: list[list[int]], sights: list[list[Sight]]) -> torch.Tensor:
    """Return the last hidden states [B, T, D] of rows of token ids, and of what is seen in the places of pictures."""
    input_ids = _filled_up([torch.tensor(ids) for ids in rows]).to(encoder.device)
    if encoder.eyes is None or not any(sights):
        return _states(encoder, input_ids=input_ids)
    places = [positions(ids, encoder.eyes, seen).T for ids, seen in zip(rows, sights, strict=True)]
    words: Any = encoder.text_encoder.get_submodule("embed_tokens")
    return _states(
        encoder,
        inputs_embeds=put_in(words(input_ids), input_ids, encoder.eyes, [sight for row in sights for sight in row]),
        position_ids=_filled_up(places).permute(2, 0, 1).to(encoder.device),  # [3, B, T]
    )


def _states(encoder: PromptEncoder, **read: torch.Tensor) -> torch.Tensor:
    last: torch.Tensor = encoder.text_encoder(**read, use_cache=False).last_hidden_state
    return last


def _filled_up(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _batches(ids: Mapping[Conditioning, list[int]]) -> Iterator[list[Conditioning]]:
    """Cut prompts, the shortest first, into batches of at most `TEXT_BATCH_TOKENS`, filling up included."""
    batch: list[Conditioning] = []
    for prompt in sorted(ids, key=lambda prompt: len(ids[prompt])):
        if batch and (len(batch) + 1) * len(ids[prompt]) > TEXT_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch
