"""The command line: flags, sentences and exit codes, without a model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.checkpoints.checkpoint import MINIATURE
from tasks.job import DecomposeJob, GenerateJob, Job, job_fields, sections_of
from tests.flows.conftest import Ended
from tests.forked import ForkedCommand, forked_source
from tests.job_files import job_file

NO_S3 = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    return str(folder / "manifest.parquet")


@pytest.mark.parametrize("kind", [GenerateJob, DecomposeJob])
def test_every_field_of_a_job_is_a_flag(packshot: Callable[..., Ended], kind: type[Job]) -> None:
    said = packshot(kind.__name__.removesuffix("Job").lower(), "--help").out
    flags = [f"--{name.replace('_', '-')}" for name in job_fields(kind) if name != "manifest"]
    assert [flag for flag in flags if flag not in said] == []
    titles = [line for line in said.splitlines() if re.fullmatch(r"\w+:", line)]
    assert titles == ["Arguments:", "Options:", *(f"{name.title()}:" for name in sections_of(kind))]
    assert said.index("Sampling:") < said.index("--steps") < said.index("Safety:") < said.index("--policy")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["generate", "none.parquet", "--store", "out"], 2, "There is no manifest none.parquet."),
        (["generate", "{text}", "--store", "out"], 2, "is not a Parquet file"),
        (["generate", "{manifest}"], 2, "store isn't given"),
        (["generate", "{manifest}", "--store", "ftp://x"], 2, "stores aren't supported"),
        (["generate", "{manifest}", "--store", "out", "--steps", "0"], 2, "steps is 0, and must be 1 or more"),
        (["generate", "{manifest}", "--store", "out", "--policy", "none"], 2, "There is no policy"),
        (["generate", "{manifest}", "--store", "out", "--profile", "none.toml"], 2, "no profile none.toml"),
        (["generate", "{manifest}", "--store", "out", "--model", "Qwen/Qwen-Image"], 2, "needs another CLIP"),
        (["generate", "{manifest}", "--store", "o", "--model", "a/b", "--clip", "none"], 2, "must be pinned"),
        (["generate", "{manifest}", "--store", "out", "--model", "{broken}"], 2, "model_index.json"),
        (["generate", "{manifest}", "--store", "out", "--job", "none.toml"], 2, "There is no job file none.toml."),
        (["generate", "{manifest}", "--store", "out", "--prompt-template", "{{nope}}"], 2, "column 'nope'"),
        (["generate", "{manifest}", "--store", "{text}"], 3, "text is a file where the store needs a folder"),
        (["generate", "{manifest}", "--store", "s3://some-bucket/x"], 3, "127.0.0.1:9"),
        (["decompose", "{manifest}", "--store", "out"], 2, "no column 'image'"),
        (
            ["decompose", "{manifest}", "--store", "o", "--image-hosts", "a.com", "--image-hosts", "b.com"],
            2,
            "no column 'image'",
        ),
        (["generate", "{manifest}", "--store", "out", "--loras", "no.safetensors=0.8"], 2, "no LoRA no.safetensors:"),
        (["generate", "{manifest}", "--store", "out", "--loras", "a/b@main:c.safetensors"], 2, "must be pinned"),
        (
            ["generate", "{manifest}", "--store", "out", "--loras", "{empty}=1", "--loras", "x"],
            2,
            "no safetensors file",
        ),
        (["generate", "{manifest}", "--store", "out", "--job", "{job}"], 2, "no LoRA of-the-file.safetensors:"),
        (["generate", "{manifest}", "--store", "out", "--steps", "1"], 2, "takes at least 2"),
        (["generate", "{manifest}", "--store", "out", "--device", "gpu"], 2, "There is no device 'gpu'"),
        (
            ["generate", "{manifest}", "--store", "out", "--device", "cuda:99", "--precision", "bfloat16"],
            2,
            "The device is cuda:99",
        ),
        (["report", "--store", "{empty}"], 2, "There is no catalogue in"),
        (["policy", "check"], 2, "There is nothing to check: give a prompt, or a picture"),
        (["policy", "check", "--picture", "none.png"], 2, "There is no picture none.png."),
        (["policy", "check", "--picture", "{empty}"], 2, "can't be read"),
        (["policy", "check", "--picture", "{text}"], 2, "none of the formats that are read"),
        (["policy", "check", "a mug", "--policy", "none"], 2, "There is no policy none; shipped are default"),
        (["policy", "check", "a mug", "--clip", "{empty}"], 2, "was measured on the CLIP 'miniature'"),
        (["policy", "check", "a mug", "--policy", "{lists}"], 2, "mine.txt, line 2: a section is written [name]."),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    packshot: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    manifest: str,
    words: list[str],
    code: int,
    sentence: str,
) -> None:
    for name, value in NO_S3.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "text").write_text("not Parquet")
    (tmp_path / "job.toml").write_text('[model]\nloras = ["of-the-file.safetensors"]')
    (tmp_path / "broken").mkdir()
    (tmp_path / "empty").mkdir()
    places = {name: str(tmp_path / name) for name in ("text", "broken", "empty")}
    (tmp_path / "lists.toml").write_text('blocklists = ["mine.txt"]')
    (tmp_path / "mine.txt").write_text("# mine\n[house\nteapot\n")
    places |= {"manifest": manifest, "job": str(tmp_path / "job.toml"), "lists": str(tmp_path / "lists.toml")}
    before = sorted(tmp_path.rglob("*"))

    ended = packshot(*(word.format(**places) for word in words))

    assert ended.code == code, ended.err
    assert sentence in ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert ended.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "step"),
    [(["report"], "tasks.runs.finish.report_store"), (["review", "list"], "tasks.review.decide.waiting")],
    ids=["command", "command of a group"],
)
def test_ctrl_c_ends_every_command_in_a_sentence(
    packshot: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, words: list[str], step: str
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupted)
    ended = packshot(*words, "--store", "out")
    assert ended.code == 130
    assert ended.err == "Stopped. What was finished is stored; the same command goes on from there.\n"


def test_a_wrong_flag_shows_how_the_command_is_used(packshot: Callable[..., Ended], manifest: str) -> None:
    ended = packshot("generate", manifest, "--stor", "out")
    assert ended.code == 2
    assert "--stor" in ended.err


@pytest.mark.skipif(not (MINIATURE / "qwen-image").exists(), reason="the miniature is not there")
def test_a_dry_run_counts_and_writes_nothing(packshot: Callable[..., Ended], tmp_path: Path) -> None:
    file = written(tmp_path, [{"id": "a", "prompt": "a mug", "width": 256}, {"id": "b", "prompt": "x", "width": 3}])
    before = sorted(tmp_path.rglob("*"))

    ended = packshot("generate", file, "--store", str(tmp_path / "store"), "--dry-run")

    assert ended.code == 0, ended.err
    assert "Dry run" in ended.out
    assert "1 × 256×256" in ended.out
    assert sorted(tmp_path.rglob("*")) == before


needs_clip = pytest.mark.skipif(not (MINIATURE / "clip").exists(), reason="the miniature's CLIP is not there")


@needs_clip
def test_a_checked_prompt_shows_rule_term_and_how_near_it_comes(packshot: Callable[..., Ended]) -> None:
    ended = packshot("policy", "check", "a glue gun and a p.1.s.t.0.l on white")

    assert ended.code == 1
    assert ended.err == ""
    assert "The prompt is refused: blocklist." in ended.out
    assert "read as     a glue gun and a p 1 s t 0 l on white" in ended.out
    assert "allowed by  glue gun (weapons, en)" in ended.out
    assert "listed      pistol (weapons, en), written “p 1 s t 0 l”" in ended.out
    (weapon,) = [line.split() for line in ended.out.splitlines() if line.startswith("weapon")]
    score, limit, room = float(weapon[1]), float(weapon[2]), float(weapon[-1] if "by" in weapon else weapon[3])
    assert abs(abs(limit - score) - room) < 0.002
    assert "watermark" not in ended.out  # a prompt may name it


@needs_clip
def test_a_checked_prompt_is_explained_to_machines(packshot: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "default"\nrefuse = ["teapot"]')
    (tmp_path / "job.toml").write_text(job_file('policy = "mine.toml"', "steps = 8"))

    allowed = packshot("policy", "check", "a red mug", "--json")
    refused = packshot("policy", "check", "a red 🫖 \x1b[31m", "--json", "--job", str(tmp_path / "job.toml"))

    said = json.loads(allowed.out)
    assert (allowed.code, said["allowed"], said["policy"]) == (0, True, "default")
    (check,) = said["checks"]
    assert check["read_as"] == ["a red mug"]
    assert [one["concept"] for one in check["concepts"][:3]] == ["drugs", "weapon", "smoking"]
    for one in check["concepts"][:3]:
        assert one["room"] == pytest.approx(one["limit"] - one["score"])
        assert one["room"] > 0
    assert {one["limit"] for one in check["concepts"][3:]} == {None}
    said = json.loads(refused.out)
    assert (refused.code, said["allowed"], said["policy"]) == (1, False, "mine")
    assert said["checks"][0]["listed"] == [
        {"term": "teapot", "list": "policy", "language": "policy", "written": "teapot", "exception": False}
    ]


@needs_clip
def test_a_checked_picture_is_judged_beside_its_prompt(packshot: Callable[..., Ended]) -> None:
    sneaker = str(Path(__file__).parents[2] / "examples" / "pictures" / "sneaker.jpg")

    alone = packshot("policy", "check", "--picture", sneaker, "--json")
    fitting = packshot("policy", "check", "a sneaker", "--picture", sneaker)
    other = packshot("policy", "check", "a red mug on a white background", "--picture", sneaker)

    assert alone.code == 0
    (check,) = json.loads(alone.out)["checks"]
    assert (check["what"], check["prompt_match"]) == ("picture", None)
    assert all(one["limit"] is not None for one in check["concepts"])
    assert (fitting.code, other.code) == (0, 1)
    assert "The prompt is allowed." in other.out
    assert "The picture is refused: off_prompt." in other.out
    assert "fits its prompt" in fitting.out


@pytest.fixture
def quiet_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache folder of the test's own, and no Prefect server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.mark.usefixtures("quiet_surroundings")
def test_a_doctor_looks_at_everything_and_leaves_nothing(
    packshot: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    ended = packshot("doctor", "--store", str(tmp_path / "store"), "--device", "cpu")

    assert ended.code == 0, ended.out + ended.err
    assert ended.err == ""
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:15].strip() for line in lines[:-1] if line[:15].strip()] == [
        *("torch", "driver", "precision", "checkpoint", "CLIP", "placement", "host memory", "cache disk"),
        *("store disk", "store reach", "store write", "conditional put", "store copy", "store delete", "Prefect"),
    ]
    assert not (tmp_path / "store").exists()


@pytest.fixture
def forked_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the doctor's checks in a process that has imported torch and diffusers; others start one that hasn't."""

    def start(theirs: Connection) -> ForkedCommand:
        source = "import sys; sys.argv[1:] = ['0']; from tasks.doctor.examine import main; main()"
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            return forked_source(source, [theirs.fileno(), nothing.fileno(), nothing.fileno()], dict(os.environ))

    monkeypatch.setattr("tasks.doctor.examine._start", start)


@pytest.mark.usefixtures("quiet_surroundings", "forked_checks")
def test_a_doctor_tells_machines_what_fails_and_whose_fault_it_is(
    packshot: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (tmp_path / "broken").mkdir()
    (tmp_path / "note").write_text("no folder")
    fields = ('model = "broken"', "layers = 3", 'store = "note"', 'device = "cpu"')
    (tmp_path / "job.toml").write_text(job_file(*fields))

    ended = packshot("doctor", "--json", "--job", str(tmp_path / "job.toml"))

    said = json.loads(ended.out)
    failed = {one["name"]: one["fault"] for one in said["findings"] if one["status"] == "failed"}
    assert failed == {"checkpoint": "request", "store write": "reach", "Prefect": "reach"}
    assert all(one["do"] for one in said["findings"] if one["status"] in ("failed", "warning"))
    assert ended.code == said["exit_code"] == 2


def test_a_doctor_is_given_a_job_that_can_be(packshot: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(job_file("layers = 3", "variants = 2", 'precision = "float7"'))
    ended = packshot("doctor", "--job", str(tmp_path / "job.toml"))
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert "there is no field sampling.layers" in ended.err


def test_a_probe_is_trained_shown_and_used_by_a_policy_check(packshot: Callable[..., Ended], tmp_path: Path) -> None:
    ways = ("dark", "pale", "dull", "neon", "deep")
    colours = [f"{how} {what}" for how in ways for what in ("red", "blue", "green", "grey")]
    rows = [f"a {colour} {thing},{label}" for colour in colours for thing, label in (("mug", "safe"), ("boot", "boot"))]
    (tmp_path / "some.csv").write_text("\n".join(["prompt,label", *rows]))

    trained = packshot(
        "probe", str(tmp_path / "some.csv"), "--out", str(tmp_path / "mine.safetensors"), "--false-positives", "0.5"
    )

    assert trained.code == 0, trained.err
    assert "A probe of 40 different prompts" in trained.out
    assert 'probe = "mine.safetensors"' in trained.out
    (tmp_path / "mine.toml").write_text('probe = "mine.safetensors"')
    refused = packshot("policy", "check", "a beige boot", "--policy", str(tmp_path / "mine.toml"))
    allowed = packshot("policy", "check", "a beige mug", "--policy", str(tmp_path / "mine.toml"))
    assert (refused.code, allowed.code) == (1, 0), refused.err + allowed.err
    assert "reads like “boot”" in " ".join(refused.out.split())
    assert "probe.boot" in refused.out
    assert "probe.boot" in allowed.out


def test_examples_that_are_not_there_are_a_wrong_request(packshot: Callable[..., Ended], tmp_path: Path) -> None:
    wrong = packshot("probe", "absent.csv", "--out", str(tmp_path / "mine.safetensors"))

    assert wrong.code == 2
    assert wrong.err == "There is no file of examples absent.csv; give a Parquet or a CSV file.\n"
