"""A folder for files that are on their way, which others make and remove at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.files.safetensors_files import CheckpointUnreachable
from models.transfer.partial_files import parts_folder

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
