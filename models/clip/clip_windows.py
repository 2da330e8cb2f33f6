"""Texts as the windows of tokens that a CLIP reads: all of a text, whichever tokenizer it has."""

from collections.abc import Iterator, Sequence
from typing import Any

import open_clip
import torch

from models.files.safetensors_files import CheckpointError

PROBE = "a red mug"
LONGEST_WORD = 256  # characters: what open_clip's own tokenizer does with a word grows with the square of its length


class Windows:
    """Cuts texts into overlapping windows of token ids [W, L], as open_clip's tokenizer of the CLIP would write each.

    Windows overlap by half, so that what a cut separates in one stands together in the next. Special tokens that are
    written out in a text (`</s>`, `<end_of_text>`) are left out of it: a tower stops reading where it finds its own.
    """

    def __init__(self, tokenizer: Any, where: object) -> None:
        """Learn what the tokenizer of the CLIP in folder `where` puts before and behind a text.

        Raises:
            CheckpointError: if it drops tokens, or writes a short text in another way than it was found to.
        """
        if getattr(tokenizer, "tokenizer_mode", "") or getattr(tokenizer, "reduction_fn", None):
            raise CheckpointError(f"{where} has a tokenizer that drops tokens", "give another CLIP.")
        self.tokenizer, self.length = tokenizer, int(tokenizer.context_length)
        if isinstance(tokenizer, open_clip.SimpleTokenizer):
            self.before, self.after, self.padding = [tokenizer.sot_token_id], [tokenizer.eot_token_id], 0
            self.special, self.pads_left, self.dropped = set(tokenizer.all_special_ids), False, None
        else:
            self._learn_frame(tokenizer)
        self.room = self.length - len(self.before) - len(self.after)
        if self.room < 2 or not torch.equal(self.of([PROBE])[0], tokenizer([PROBE])):
            raise CheckpointError(f"{where} has a tokenizer that can't be read in windows", "give another CLIP.")

    def _learn_frame(self, tokenizer: Any) -> None:
        own = tokenizer.tokenizer
        framed, bare = _ids(own, [PROBE], special=True)[0], _ids(own, [PROBE], special=False)[0]
        starts = (at for at in range(len(framed)) if framed[at : at + len(bare)] == bare)
        start = next(starts, 0)
        self.before, self.after = framed[:start], framed[start + len(bare) :]
        self.padding, self.pads_left = own.pad_token_id, own.padding_side == "left"
        self.special = set(own.all_special_ids) - {own.unk_token_id}
        self.dropped = own.sep_token_id if tokenizer.strip_sep_token else None

    def of(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Return the windows of each text, int64 [W, L]; every token is in at least one of them."""
        return [torch.tensor([self._window(piece) for piece in _pieces(ids, self.room)]) for ids in self._tokens(texts)]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if isinstance(self.tokenizer, open_clip.SimpleTokenizer):
            written = [self.tokenizer.encode(_broken(text)) for text in texts]
        else:
            cleaned = [self.tokenizer.clean_fn(text) for text in texts]
            written = _ids(self.tokenizer.tokenizer, cleaned, special=False) if texts else []
        return [[token for token in ids if token not in self.special] for ids in written]

    def _window(self, piece: list[int]) -> list[int]:
        window = [*self.before, *piece, *self.after]
        padding = [self.padding] * (self.length - len(window))
        whole = padding + window if self.pads_left else window + padding
        return [0 if token == self.dropped else token for token in whole] if self.dropped is not None else whole


def _ids(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    found: list[list[int]] = tokenizer(
        texts, add_special_tokens=special, padding=False, truncation=False, verbose=False
    ).input_ids
    return found


def _broken(text: str) -> str:
    """A text whose words are none of them longer than `LONGEST_WORD`."""
    if len(text) <= LONGEST_WORD:
        return text
    words = (word[at : at + LONGEST_WORD] for word in text.split() for at in range(0, len(word), LONGEST_WORD))
    return " ".join(words)


def _pieces(tokens: list[int], length: int) -> Iterator[list[int]]:
    """Cut tokens into pieces of at most `length`, each beginning halfway through the one before."""
    start = 0
    while start + length < len(tokens):
        yield tokens[start : start + length]
        start += length // 2
    yield tokens[start:]
