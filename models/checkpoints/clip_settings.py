"""What an open_clip checkpoint may ask for in its settings, and the text towers that it only names.

open_clip builds what a checkpoint's settings name. Some of those names lead to the network or to code of a
checkpoint's own (seen in open_clip 3.3), so they are checked before it sees them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.files.layout import CLIP
from models.files.safetensors_files import CheckpointError, read_json
from models.files.temporary_folder import temporary_folder

TOKENIZER_SETTINGS = {"clean", "strip_sep_token", "language", "reduction_mask", "additional_special_tokens"}
"""What `tokenizer_kwargs` may hold: the rest goes to transformers as it is, `trust_remote_code` among it."""
TEXT_TOWER = "config.json"  # transformers' settings of a text tower, beside open_clip's own
TOWERS = ("roberta", "xlm-roberta", "bert", "m2m_100")  # kinds of transformers' text towers that open_clip can pool
_ROBERTA = {
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
_NLLB = {
    "model_type": "m2m_100",
    "vocab_size": 256206,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 1,  # that half is built and thrown away
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 1024,
    "activation_function": "relu",
    "scale_embedding": True,
    "is_encoder_decoder": True,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
KNOWN_TOWERS: dict[str, dict[str, Any]] = {
    "roberta-base": {**_ROBERTA, "model_type": "roberta", "vocab_size": 50265},
    "xlm-roberta-base": _ROBERTA,
    "xlm-roberta-large": {
        **_ROBERTA,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "facebook/nllb-200-distilled-600M": _NLLB,
    "facebook/nllb-200-distilled-1.3B": {**_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192},
}
"""The text towers that open_clip 3.3's own architectures name, by the settings of their model cards: so that a
checkpoint which only names one is opened without a network. Wrong ones wouldn't fit the weights."""


def read_settings(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's `model_cfg`, checked.

    Raises:
        CheckpointError: if it is none of open_clip's, or asks for what isn't in the checkpoint.
    """
    path = folder / CLIP
    model = read_json(path).get("model_cfg")
    if not isinstance(model, dict):
        raise CheckpointError(f"{path} has no model_cfg", "give an open_clip checkpoint.")
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise CheckpointError(f"{path} must describe a vision_cfg and a text_cfg", "give an open_clip checkpoint.")
    if any(sign in str(vision.get("timm_model_name", "")) for sign in ":/\\"):
        raise CheckpointError(f"{path} has a timm_model_name that is loaded from elsewhere", "give another CLIP.")
    settings = text.get("tokenizer_kwargs", {})
    unknown = sorted(set(settings) - TOKENIZER_SETTINGS) if isinstance(settings, dict) else ["of no kind that is read"]
    if unknown:
        raise CheckpointError(
            f"{path} asks for a tokenizer with {unknown[0]}, which isn't allowed", "give another CLIP."
        )
    return model


def check_text_tower(folder: Path, model: dict[str, Any]) -> None:
    """Check that the text tower's architecture is known here, if it is one of transformers'.

    Raises:
        CheckpointError: if it isn't.
    """
    name = model["text_cfg"].get("hf_model_name")
    if name is not None and _text_tower(folder, name) is None:
        raise CheckpointError(
            f"{folder / CLIP} reads texts with {name}, which packshot doesn't know: put that model's {TEXT_TOWER} "
            f"(model_type {', '.join(TOWERS)}) beside it."
        )


@contextmanager
def text_tower(folder: Path, model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments for open_clip to build the text tower by, from what is in the folder or known here, not from a network.

    None are needed for a tower of open_clip's own.
    """
    text = model["text_cfg"]
    name = text.get("hf_model_name")
    if name is None:
        yield {}
        return
    with temporary_folder() as place:
        (place / TEXT_TOWER).write_text(json.dumps(_text_tower(folder, name)))
        yield {"text_cfg": {**text, "hf_model_name": str(place), "hf_model_pretrained": False}}


def _text_tower(folder: Path, name: str) -> dict[str, Any] | None:
    if (folder / TEXT_TOWER).is_file():
        given = read_json(folder / TEXT_TOWER)
        if given.get("model_type") in TOWERS:
            return {setting: value for setting, value in given.items() if setting != "auto_map"}
    return KNOWN_TOWERS.get(name)
