"""What a machine lacks that lanes need there."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from flows.lanes.lanes_check import check_lanes_of
from flows.lanes.node_check import Needs, code_digest, lacking, paths_in
from tasks.job import GenerateJob


def test_a_machine_that_has_all_lacks_nothing(tmp_path: Path) -> None:
    assert lacking(Needs(code_digest(), (str(tmp_path),), None)) == []


def test_another_packshot_missing_files_and_a_server_out_of_reach_are_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and doesn't listen
        server = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        version, files, prefect = lacking(Needs("another", (str(tmp_path / "model"), str(tmp_path)), server))
    assert version == "its packshot is another version than the command's"
    assert f"it has no {tmp_path / 'model'} (" in files
    assert server in prefect
    assert "PREFECT_API_URL" in prefect


def test_every_absolute_path_that_a_lane_is_told_of_is_looked_for(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Named:
        folder: Path
        scale: float = 1.0

    named = [Named(tmp_path / "a"), (Named(Path("relative")),), {"b": Named(tmp_path / "b")}]
    assert list(paths_in(named)) == [tmp_path / "a", tmp_path / "b"]


def test_the_doctor_says_of_lanes_what_a_run_would_refuse_and_what_to_do() -> None:
    job = GenerateJob.of(manifest="m.parquet", store="s", lanes="2", device="cuda:1")
    (finding,) = check_lanes_of(job, [])
    assert (finding.status, finding.fault) == ("failed", "request")
    assert finding.do == "Leave out --device, or --lanes and --ray."
