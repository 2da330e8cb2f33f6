"""What two miniatures share lies in one of them, and the other links to it."""

from pathlib import Path

import pytest

from models.miniature.training.export import LAYERED, PIPELINE, SHARED, link_shared, unlink_shared


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Two checkpoints that are the same in what may be shared."""
    for checkpoint in (PIPELINE, LAYERED):
        for name in SHARED:
            file = tmp_path / "weights" / checkpoint / name
            file.parent.mkdir(parents=True)
            file.write_bytes(name.encode())
    return tmp_path / "weights"


def links(weights: Path) -> list[str]:
    layered = weights / LAYERED
    return sorted(file.relative_to(layered).as_posix() for file in layered.rglob("*") if file.is_symlink())


def test_what_is_the_same_becomes_a_link_that_may_be_moved_with_both(weights: Path, tmp_path: Path) -> None:
    for _ in range(2):
        link_shared(weights)
        assert links(weights) == sorted(SHARED)
    moved = weights.rename(tmp_path / "moved")
    assert [(moved / LAYERED / name).read_bytes() for name in SHARED] == [name.encode() for name in SHARED]


@pytest.mark.parametrize("name", SHARED)
def test_what_differs_stays_a_file(weights: Path, name: str) -> None:
    (weights / PIPELINE / name).write_bytes(b"another")
    link_shared(weights)
    assert links(weights) == [other for other in sorted(SHARED) if other != name]
    assert (weights / LAYERED / name).read_bytes() == name.encode()


def test_without_the_other_checkpoint_nothing_is_linked(weights: Path) -> None:
    (weights / PIPELINE).rename(weights / "elsewhere")
    link_shared(weights)
    assert links(weights) == []


def test_a_new_qwen_image_changes_nothing_in_what_was_linked_to_the_old_one(weights: Path) -> None:
    link_shared(weights)
    unlink_shared(weights)
    assert links(weights) == []
    for name in SHARED:
        (weights / PIPELINE / name).write_bytes(b"another")
        assert (weights / LAYERED / name).read_bytes() == name.encode()
