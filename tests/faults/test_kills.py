"""Kill commands at random moments, each in a process of its own: nothing is lost, doubled or left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import prefect_api
from tests.faults.killing import Shop, processes

__all__ = ["prefect_api"]  # a fixture

KILLS = 8


@pytest.mark.waits
@pytest.mark.parametrize("where", ["folder", "radosgw"])
def test_nothing_is_lost_doubled_or_left_behind_by_commands_that_are_killed(
    where: str, tmp_path: Path, prefect_api: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    del prefect_api
    uri = str(tmp_path / "store") if where == "folder" else request.getfixturevalue("radosgw_store_uri")
    shop, killed = Shop(uri, tmp_path, seed=1), 0
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))  # by which the commands' processes are known, too
    while killed < KILLS:
        killed += shop.kill_some()
    shop.end()
    assert shop.count["killed"] == killed
    assert shop.count["objects looked at"] > 0
    assert [file.name for file in temporary.glob("packshot-*")] == []
    assert processes(temporary) == {}
