"""`packshot models`, and jobs whose model has to be fetched: sentences, exit codes, and a process that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.checkpoints.checkpoint import find_checkpoint
from models.transfer import hub_client
from models.transfer.checkpoint_folder import PARTS
from tests.flows.conftest import Ended
from tests.hub_server import HubServer, busy, stalled
from tests.small_checkpoint import WEIGHTS
from tests.small_hub import COMMIT, MODEL, OTHER, hub, source

__all__ = ["hub", "source"]  # fixtures

Packshot = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def one_sentence(ended: Ended, code: int) -> str:
    assert (ended.code, ended.out) == (code, ""), ended
    [sentence] = ended.err.strip().splitlines()
    return sentence


@pytest.mark.usefixtures("hub")
def test_a_pull_says_in_the_end_what_is_where_and_a_verify_that_it_is_whole(packshot: Packshot, tmp_path: Path) -> None:
    words = ("models", "pull", "acme/shop", "--revision", COMMIT, "--to", "shop")
    first = packshot(*words)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(f"shop holds acme/shop at {COMMIT}: 12 files, ")
    assert find_checkpoint(str(tmp_path / "shop"))

    assert packshot(*words) == first

    ended = packshot("models", "verify", "shop")
    assert (ended.code, ended.err) == (0, "")
    assert f"shop is whole: 12 files, 917.4 kB. Every content is that of acme/shop at {COMMIT}." in ended.out


@pytest.mark.usefixtures("hub")
def test_a_verify_that_finds_something_says_what_and_ends_with_1(packshot: Packshot, tmp_path: Path) -> None:
    packshot("models", "pull", "acme/shop", "--revision", COMMIT, "--to", "shop")
    (tmp_path / "shop" / WEIGHTS).unlink()
    ended = packshot("models", "verify", "shop")
    assert ended.code == 1
    assert "shop has 1 thing wrong:" in ended.out
    assert f"{WEIGHTS} is missing." in ended.out
    assert f"packshot models pull acme/shop --revision {COMMIT} --to shop" in ended.out


def test_a_plea_to_wait_is_shown(packshot: Packshot, hub: HubServer) -> None:
    hub.inject(busy(seconds=1), path=WEIGHTS)
    ended = packshot("models", "pull", "acme/shop", "--revision", COMMIT, "--to", "shop")
    assert ended.code == 0
    assert ended.err == "127.0.0.1 answers 429 Too Many Requests; waiting 1 s.\n"


@pytest.mark.usefixtures("hub", "s3_environment")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["acme/shop", "--to", "shop"], 2, "acme/shop must be pinned"),
        (["acme/shop", "--revision", "main", "--to", "shop"], 2, "acme/shop must be pinned"),
        (["acme/shop", "--revision", OTHER, "--to", "shop"], 2, f"acme/shop has no commit {OTHER}"),
        (["acme/none", "--revision", COMMIT, "--to", "shop"], 2, "There is no acme/none at http"),
        (["shop", "--revision", COMMIT, "--to", "shop"], 2, "shop is no hub id such as Qwen/Qwen-Image"),
        (["acme/shop", "--revision", COMMIT, "--to", "s3://a"], 2, "isn't the name of a bucket"),
        (
            ["acme/shop", "--revision", COMMIT, "--to", "s3://no-such-bucket/x"],
            3,
            "There is no bucket for s3://no-such",
        ),
        (["s3://no-such-bucket/x", "--to", "shop"], 3, "There is no bucket for s3://no-such-bucket"),
        (["acme/shop", "--revision", COMMIT, "--to", "/proc/shop"], 3, "can't be written"),
    ],
)
def test_what_cannot_be_pulled_gets_one_sentence(
    packshot: Packshot, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    assert sentence in one_sentence(packshot("models", "pull", *words), code)
    assert not (tmp_path / "shop").exists()


def test_a_hub_that_is_busy_for_long_is_out_of_reach_for_a_pull_and_a_job(
    packshot: Packshot, hub: HubServer, manifest: str
) -> None:
    hub.inject(busy(seconds=7200), times=None)
    ended = packshot("models", "pull", "acme/shop", "--revision", COMMIT, "--to", "shop")
    assert "asks to wait 120 minutes; try again later" in one_sentence(ended, 3)
    ended = packshot(
        "generate", manifest, "--store", "out", "--model", "acme/shop", "--revision", COMMIT, "--clip", "none"
    )
    assert "asks to wait 120 minutes; try again later" in one_sentence(ended, 3)


def test_a_pull_while_offline_says_so(packshot: Packshot, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ended = packshot("models", "pull", "acme/shop", "--revision", COMMIT, "--to", "shop")
    assert one_sentence(ended, 2) == "acme/shop can't be fetched while HF_HUB_OFFLINE is set; unset it."
    assert hub.seen == []


@pytest.mark.usefixtures("hub")
def test_a_job_takes_its_model_from_a_bucket(packshot: Packshot, s3_store_uri: str, manifest: str) -> None:
    ended = packshot("models", "pull", "acme/miniature", "--revision", COMMIT, "--to", f"{s3_store_uri}/model")
    assert ended.code == 0, ended.err
    words = ("--model", f"{s3_store_uri}/model", "--clip", "none", "--dry-run")

    ended = packshot("generate", manifest, "--store", "out", *words)
    assert ended.code == 0, ended.err
    assert "1 × 256×256, 16 steps, guidance 2" in ended.out  # the miniature's own settings

    ended = packshot("decompose", manifest, "--store", "out", *words)
    assert "is a QwenImagePipeline where a QwenImageLayeredPipeline is needed" in one_sentence(ended, 2)
    assert f"{s3_store_uri}/model" in ended.err or "acme/miniature" in ended.err


def waiting(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait for something that is bound to happen as long as the process is there."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def process(hub: HubServer) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command line in a process of its own, which finds the hub and its token in its environment."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        running = subprocess.Popen(
            [sys.executable, "-c", "from flows.command import main; main()", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": "secret", "NO_PROXY": "127.0.0.1,localhost"},
        )
        started.append(running)
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_was_ended_is_gone_on_with_and_nothing_of_it_looks_whole(
    hub: HubServer, process: Callable[..., subprocess.Popen[str]], tmp_path: Path, end: signal.Signals
) -> None:
    hub.token = "secret"
    hub.inject(stalled(after=15_000_000), path=f"qwen-image/{WEIGHTS}")
    words = ("models", "pull", "acme/miniature", "--revision", COMMIT, "--to", str(tmp_path / "shop"))
    first = process(*words)
    parts = tmp_path / "shop" / PARTS

    def everything_else_is_there() -> bool:
        """Whether all files lie in place but the entry, which comes last, and the one that is stalled half-way."""
        there = {file.relative_to(MODEL).as_posix() for file in MODEL.rglob("*") if file.is_file()}
        lacking = {path for path in there if not (tmp_path / "shop" / path).exists()}
        return lacking == {"model_index.json", WEIGHTS}

    assert waiting(everything_else_is_there, first), first.communicate()
    assert waiting(lambda: any(part.stat().st_size >= 10_000_000 for part in parts.glob("*.part")), first)

    first.send_signal(end)
    hub.closing.set()
    out, err = first.communicate()

    assert first.returncode == (130 if end is signal.SIGINT else -end), err
    assert out == ""
    assert not (tmp_path / "shop" / "model_index.json").exists()
    asked = len(hub.contents())
    second = process(*words)
    out, err = second.communicate()
    assert (second.returncode, err) == (0, "")
    assert [seen.partial for seen in hub.contents()[asked:] if seen.path.startswith("/storage/")] == [True]
    assert find_checkpoint(str(tmp_path / "shop")).revision == find_checkpoint(str(MODEL)).revision
    assert not parts.exists()


def test_the_clients_patience_ends(hub: HubServer, packshot: Packshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "PATIENCE", {"busy": 1.0, "away": 1.0})
    hub.inject(busy(), times=None)
    ended = packshot("models", "pull", "acme/shop", "--revision", COMMIT, "--to", "shop")
    assert ended.code == 3
    assert ended.err.count("waiting 1 s.") == 1
