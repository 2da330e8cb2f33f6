"""What the room on disks means."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.units import GIB
from tasks.doctor.disk import DiskFacts, check_disks, judge_cache, judge_store_disk, read_disk

FOLDER = DiskFacts(Path("/var/store"), free=200 * GIB, total=500 * GIB, is_writable=True)


def test_room_is_ok_and_little_room_is_warned_of() -> None:
    assert judge_cache(FOLDER).found == "200.0 of 500.0 GiB are free for /var/store."
    assert judge_store_disk(FOLDER).status == "ok"
    assert judge_store_disk(replace(FOLDER, free=9 * GIB)).status == "warning"
    assert judge_cache(replace(FOLDER, free=9 * GIB)).status == "ok"
    assert judge_cache(replace(FOLDER, free=GIB // 2)).status == "warning"


def test_a_cache_that_cant_be_written_is_warned_of() -> None:
    finding = judge_cache(replace(FOLDER, is_writable=False))
    assert finding.status == "warning"
    assert "XDG_CACHE_HOME" in (finding.do or "")


def test_a_folder_that_isnt_there_yet_has_the_room_of_the_one_above_it(tmp_path: Path) -> None:
    facts = read_disk(tmp_path / "a" / "b")
    assert facts.total == read_disk(tmp_path).total > 0
    assert facts.folder == tmp_path / "a" / "b"
    assert facts.is_writable


def test_only_a_store_in_a_folder_has_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = {
        store: [finding.name for finding in check_disks(store)]
        for store in ("", "s3://bucket/x", "gs://x", str(tmp_path))
    }
    assert names.pop(str(tmp_path)) == ["cache disk", "store disk"]
    assert list(names.values()) == [["cache disk"]] * 3
