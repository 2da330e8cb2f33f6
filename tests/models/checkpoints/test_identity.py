"""Which folders are the miniature's own, whatever lies in them."""

import shutil
from pathlib import Path

import pytest

from models.checkpoints.checkpoint import MINIATURE, CheckpointError, find_checkpoint
from models.checkpoints.identity import is_miniature

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def test_a_copy_of_the_miniature_is_one_and_with_a_link_that_leads_nowhere_it_is_none(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(MINIATURE / "qwen-image", tmp_path / "copy"))
    assert is_miniature(copy)
    (copy / WEIGHTS).unlink()
    (copy / WEIGHTS).symlink_to(tmp_path / "nowhere.safetensors")
    assert not is_miniature(copy)
    with pytest.raises(CheckpointError, match="has no diffusion_pytorch_model"):
        find_checkpoint(str(copy))
