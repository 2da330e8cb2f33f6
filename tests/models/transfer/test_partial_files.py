"""A folder for files that are on their way, which others make and remove at the same time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from models.files.safetensors_files import CheckpointUnreachable
from models.transfer.partial_files import LOCK, parts_folder

NOWHERE = Path("/proc/nobody")


def nobody_waits() -> None:
    raise AssertionError("Nobody has the folder.")


def test_a_folder_that_another_process_removes_as_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, looked, removed = tmp_path / "parts", Path.is_dir, list[Path]()
    folder.mkdir()

    def removing(place: Path) -> bool:
        if place == folder and not removed:
            removed.append(place)
            folder.rmdir()
        return looked(place)

    monkeypatch.setattr(Path, "is_dir", removing)
    with parts_folder(folder, nobody_waits) as parts:
        assert removed == [parts]
        assert looked(parts)


def test_who_comes_as_the_one_before_removes_the_folder_has_it_and_its_lock_to_himself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, unlink, open_ones = tmp_path / "parts", os.unlink, contextlib.ExitStack()
    came: list[Path] = []

    def coming_then(path: Any, **options: Any) -> None:
        unlink(path, **options)
        if Path(path).name == LOCK and not came:
            came.append(folder)
            open_ones.enter_context(parts_folder(folder, nobody_waits))
            (folder / "part").touch()

    with open_ones:
        with monkeypatch.context() as patch, parts_folder(folder, nobody_waits):
            (folder / "earlier").touch()
            (folder / "folder").mkdir()
            patch.setattr(os, "unlink", coming_then)
        assert came
        assert sorted(file.name for file in folder.iterdir()) == [LOCK, "part"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "parts"])
def test_a_file_where_the_folder_should_be_is_said_to_be_there(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointUnreachable, match=f"{tmp_path}/file.* can't be written"),
        parts_folder(tmp_path / "file" / below, nobody_waits),
    ):
        pass


def test_a_place_where_nothing_can_be_made_is_said_to_be_one() -> None:
    with pytest.raises(CheckpointUnreachable, match="can't be written"), parts_folder(NOWHERE / "parts", nobody_waits):
        pass
