"""Whether a checkpoint is one of the miniature's: by its weights, whatever it is called and wherever it lies."""

from __future__ import annotations

from pathlib import Path

from models.checkpoints.checkpoint import MINIATURE
from models.files.digest import hashes

CLIP_FOLDER = MINIATURE / "clip"


def is_miniature(folder: Path) -> bool:
    """Return whether a folder holds the weights of one of the picture models that ship with packshot."""
    return any(_same_weights(folder, own) for own in sorted(MINIATURE.iterdir()) if own != CLIP_FOLDER)


def is_miniature_clip(folder: Path) -> bool:
    """Return whether a folder holds the weights of the CLIP that ships with packshot: it knows drawings alone."""
    return _same_weights(folder, CLIP_FOLDER)


def _same_weights(folder: Path, own: Path) -> bool:
    if not folder.is_dir():
        return False
    if folder.resolve() == own.resolve():
        return True
    ours, theirs = _weights(own), _weights(folder)
    if sorted(file.stat().st_size for file in theirs) != sorted(file.stat().st_size for file in ours):
        return False
    return sorted(hashes(folder, theirs).values()) == sorted(hashes(own, ours).values())


def _weights(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*.safetensors") if file.is_file())  # a link may lead nowhere
