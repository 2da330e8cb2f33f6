"""Which text encoder a checkpoint reads prompts with. Importing this module doesn't import torch."""

from __future__ import annotations

from models.checkpoints.checkpoint import Checkpoint
from models.files.digest import digest
from models.files.quantization_schemes import TRANSFORMERS
from models.files.safetensors_files import check_weights

# names how `models.sampling.pooled.pool` does it: what was trained on one way can't judge another
POOLING = "mean,last"
TOKENIZER_FILES = (".json", ".txt", ".model", ".jinja")


def text_encoder_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 (hex) of what reads a checkpoint's prompts: the text encoder's weights, and the tokenizer.

    Checkpoints that share both have the same one, whatever else they are and wherever they lie. Weights of 15 GB are
    read in some ten seconds, and remembered.

    Raises:
        CheckpointError: as `models.files.safetensors_files.check_weights`.
    """
    folder = checkpoint.folder
    tokenizer = (file for file in (folder / "tokenizer").iterdir() if file.suffix in TOKENIZER_FILES)
    return digest(folder, [*check_weights(folder / "text_encoder", TRANSFORMERS), *tokenizer])
