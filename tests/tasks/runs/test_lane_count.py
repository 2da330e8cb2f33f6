"""How many lanes there are to be, and what is said before any work where they can't be had."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.checkpoint import Checkpoint
from tasks.errors import RequestError
from tasks.job import GenerateJob
from tasks.job_file import load_job
from tasks.job_sections import HardwareSection
from tasks.runs import lane_count, prepare
from tasks.runs.lane_count import check_lanes, lanes_here, needs_ray, wanted_lanes
from tasks.runs.prepare import resolved_precision


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_count, "gpus_here", lambda: 2)
    monkeypatch.setattr(lane_count, "find_spec", lambda name: name)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_count, "gpus_here", lambda: 0)
    monkeypatch.setattr(lane_count, "find_spec", lambda name: name)


def said(**values: Any) -> str:
    with pytest.raises(RequestError) as error:
        check_lanes(HardwareSection(**values))
    return str(error.value)


def test_one_lane_needs_no_ray_and_is_not_asked_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_count, "find_spec", lambda _: None)
    monkeypatch.setattr(lane_count, "gpus_here", lambda: pytest.fail("torch takes seconds"))
    check_lanes(HardwareSection())
    assert not needs_ray(HardwareSection())


@pytest.mark.usefixtures("two_gpus")
def test_auto_is_every_gpu_of_this_machine() -> None:
    assert lanes_here(HardwareSection(lanes="auto")) == 2
    assert needs_ray(HardwareSection(lanes="auto"))
    check_lanes(HardwareSection(lanes="auto"))


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_one_lane_where_there_is_no_gpu() -> None:
    assert lanes_here(HardwareSection(lanes="auto")) == 1
    assert not needs_ray(HardwareSection(lanes="auto"))
    check_lanes(HardwareSection(lanes="auto"))


@pytest.mark.usefixtures("two_gpus")
def test_more_lanes_than_gpus_are_refused_with_how_many_there_are() -> None:
    assert "more than this machine's 2 GPUs" in said(lanes="3")
    assert "give --lanes 2" in said(lanes="3")


@pytest.mark.usefixtures("no_gpu")
def test_more_lanes_than_cores_are_refused_where_there_is_no_gpu() -> None:
    assert f"{os.cpu_count()} cores" in said(lanes="999")


@pytest.mark.usefixtures("no_gpu")
def test_lanes_on_gpus_that_this_machine_has_none_of_are_refused_with_what_else_there_is() -> None:
    sentence = said(lanes="2", device="cuda")
    assert "needs as many GPUs, and torch finds none on this machine" in sentence
    assert "--ray" in sentence


def test_a_machine_without_a_gpu_may_ask_a_cluster_for_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "surely_no_gpu", lambda: True)
    where = {"manifest": "m.parquet", "store": "s", "device": "cuda", "precision": "float16"}
    checkpoint = Checkpoint("paint", Path("paint"), "0" * 64)
    assert resolved_precision(GenerateJob.of(**where, ray="10.0.0.1:6379"), checkpoint) == "float16"


@pytest.mark.usefixtures("two_gpus")
def test_lanes_go_with_no_single_gpu_and_with_no_model_over_several() -> None:
    assert "--device" in said(lanes="2", device="cuda:1")
    assert "--placement" in said(lanes="2", placement="balanced")
    assert "--placement" in said(ray="10.0.0.1:6379", placement="balanced")


def test_the_absence_of_ray_is_a_sentence_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_count, "find_spec", lambda _: None)
    assert "packshot[ray]" in said(lanes="2", device="cpu")
    assert "packshot[ray]" in said(ray="auto")


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_is_to_be_told_the_precision_of_a_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_count, "surely_no_gpu", lambda: True)
    assert "--precision" in said(ray="auto")
    assert "--precision" in said(ray="auto", device="cuda")
    check_lanes(HardwareSection(ray="auto"), "bfloat16")


@pytest.mark.usefixtures("no_gpu")
def test_an_address_at_which_nobody_listens_is_refused_by_its_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and doesn't listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"There is no Ray cluster at {address}" in said(ray=address, device="cpu")
    assert "HOST:PORT" in said(ray="head", device="cpu")


@pytest.mark.parametrize("lanes", ["0", "-1", "many", "1.5"])
def test_lanes_are_a_number_or_auto(lanes: str) -> None:
    with pytest.raises(
        ValueError, match=f'lanes\n.*"{lanes}" is neither a number of processes, from 1 to 9999, nor "auto"'
    ):
        HardwareSection(lanes=lanes)


def test_a_job_file_may_give_lanes_as_a_number(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[hardware]\nlanes = 4\n")
    job = load_job(GenerateJob, tmp_path / "job.toml", manifest="m.parquet", store=str(tmp_path))
    assert job.hardware.lanes == "4"


def test_how_many_lanes_a_cluster_gives_is_known_beforehand_only_where_a_number_is_asked_for() -> None:
    assert wanted_lanes(HardwareSection(ray="10.0.0.1:6379", lanes="8")) == 8
    assert wanted_lanes(HardwareSection(ray="10.0.0.1:6379", lanes="auto")) is None


@pytest.mark.usefixtures("no_gpu")
def test_what_answers_at_an_address_and_is_no_cluster_is_refused_and_so_is_rays_client() -> None:
    def answer() -> None:
        way, _ = taken.accept()
        with way:
            way.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            way.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor(1) as pool:
        pool.submit(answer)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"What answers at {address} is no Ray cluster" in said(ray=address, device="cpu")
    assert "is the address of Ray's client" in said(ray="ray://127.0.0.1:10001", device="cpu")


def test_lanes_change_neither_the_name_of_a_run_nor_what_it_decides() -> None:
    one = GenerateJob.of(manifest="m.parquet", store="s")
    several = GenerateJob.of(manifest="m.parquet", store="s", lanes="8", ray="10.0.0.1:6379", stalled_minutes=3)
    assert several.deciding() == one.deciding()
