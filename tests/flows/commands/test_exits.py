"""The door: whatever comes up ends as one sentence and an exit code, and output ends nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.commands.exits import command_of, end_of
from flows.commands.traceback_file import step_of
from flows.orchestration import ending as ending_module
from flows.orchestration.ending import kept_on_gpu
from models.lost_device import DeviceLost
from tasks.job import GenerateJob
from tasks.outcome import CATALOGUE_SCHEMA

DOOR = "from flows.command import main; main()"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "packshot"


def raised(error: BaseException, *, called: str = "unknown", module: str = "tasks.anything") -> BaseException:
    """An error that went through a function of this name in this module."""
    room: dict[str, object] = {"__name__": module, "error": error}
    exec(f"def {called}():\n    raise error", room)
    function = room[called]
    assert callable(function)
    with pytest.raises(type(error)) as caught:
        function()
    return caught.value


def command(*words: str, **settings: str | None) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in {**os.environ, **settings}.items() if value is not None}
    return subprocess.run([sys.executable, "-c", DOOR, *words], capture_output=True, env=environment, check=False)


def catalogue(folder: Path, rows: int) -> Path:
    """A store whose rows all wait for a person, so that a list of them is long."""
    row = {
        "status": "rejected",
        "reason": "review",
        "prompt": "白色背景上的杯子",
        "message": "Look.",
        "asks": [("weapon", 0.1)],
    }
    filled = {field.name: pa.scalar(0).cast(field.type).as_py() for field in CATALOGUE_SCHEMA if not field.nullable}
    table = pa.Table.from_pylist([{**filled, **row, "id": f"row-{n}"} for n in range(rows)], CATALOGUE_SCHEMA)
    folder.mkdir()
    pq.write_table(table, folder / "catalog.parquet")
    return folder


def test_what_nobody_foresaw_is_one_line_and_its_traceback_a_file(state: Path) -> None:
    sentence, code = end_of(raised(KeyError("a whole prompt"), called="prepare"), "packshot generate")

    (file,) = state.iterdir()
    assert code == 70
    assert sentence == (
        "packshot generate came upon a fault of its own while planning the run (KeyError); please report it with its "
        f"traceback, which is in {file}."
    )
    assert "KeyError: 'a whole prompt'" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_state_folder_that_cant_be_written_leaves_the_traceback_in_the_temporary_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    sentence, _ = end_of(raised(ZeroDivisionError()), "packshot report")

    (file,) = (tmp_path / "tmp").iterdir()
    assert str(file) in sentence


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), ["too little free memory", "with more memory"]),
        (pa.ArrowMemoryError("malloc of size 640 failed"), ["too little free memory"]),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/a"), ["No space left on device: /tmp/a", "TMPDIR"]),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), ["quota"]),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/root/x"), ["Permission denied: /root/x"]),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), ["File too large", "ulimit -f"]),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), ["ulimit -n"]),
    ],
)
def test_what_the_system_refuses_is_a_sentence_and_out_of_reach(error: Exception, words: list[str]) -> None:
    sentence, code = end_of(raised(error, called="finish"), "packshot generate")
    assert code == 3
    assert all(word in sentence for word in [*words, "while writing the catalogue and the report"]), sentence


def test_the_step_is_the_innermost_of_packshots_own() -> None:
    assert step_of(raised(KeyError(), called="screen")) == "screening rows"
    assert step_of(raised(KeyError(), called="render", module="rich.table")) is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["policy", "check", "a whole prompt"], "packshot policy check"),
        (["generate", "m.parquet", "--store", "out"], "packshot generate"),
        (["--help"], "packshot"),
    ],
)
def test_a_command_is_named_without_what_it_was_given(words: list[str], named: str) -> None:
    assert command_of(words, ["models", "policy", "review"]) == named


def test_a_fault_anywhere_in_a_command_ends_it_with_70(tmp_path: Path) -> None:
    broken = f"import tasks.runs.finish\ntasks.runs.finish.report_store = lambda store: {{}}['nothing']\n{DOOR}"
    ended = subprocess.run(
        [sys.executable, "-c", broken, "report", "--store", "out"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        check=False,
    )
    (file,) = (tmp_path / "packshot").iterdir()
    assert (ended.returncode, ended.stdout) == (70, "")
    assert ended.stderr.count("\n") == 1
    assert f"(KeyError); please report it with its traceback, which is in {file}." in ended.stderr


def test_a_thread_that_ends_of_a_fault_is_one_line_and_the_command_goes_on(tmp_path: Path) -> None:
    threaded = """
import threading, tasks.runs.finish
from tasks.errors import RequestError

def report_store(store):
    thread = threading.Thread(target=lambda: {}["nothing"])
    thread.start()
    thread.join()
    raise RequestError("The command went on.")

tasks.runs.finish.report_store = report_store
"""
    ended = subprocess.run(
        [sys.executable, "-c", threaded + DOOR, "report", "--store", "out"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        check=False,
    )
    (file,) = (tmp_path / "packshot").iterdir()
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "packshot report, beside its work, came upon a fault of its own (KeyError); please report it with its "
        f"traceback, which is in {file}.",
        "The command went on.",
    ]


LOSING = """
import os
from flows.commands import terminal
from flows.orchestration.ending import ending
from models.lost_device import DeviceLost
from tasks.processes.stopping import stop

def lose(*_, **__):
    print(os.getpid(), os.environ["HOME"])
    {first}
    ending.error = DeviceLost("The GPU failed: CUDA error: an illegal memory access")
    raise {error}

terminal.run_in_terminal = lose
from flows.command import main
main()
"""


LOSING_RUN = "generate rows.parquet --store out --device cpu"


def losing(
    folder: Path, error: str = "ending.error", first: str = "pass", **settings: str
) -> tuple[list[str], int, str]:
    """What a command that loses its GPU every time says of its processes, how it ends, and its last sentence."""
    ended = subprocess.run(
        [sys.executable, "-c", LOSING.format(error=error, first=first), *LOSING_RUN.split()],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **settings},
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines(), ended.returncode, ended.stderr.splitlines()[-1]


def test_a_command_whose_gpu_is_lost_each_time_is_begun_again_twice_and_then_ends_with_3(tmp_path: Path) -> None:
    processes, code, sentence = losing(tmp_path)
    assert code == 3
    assert len(processes) == 3
    assert len(set(processes)) == 1  # of one number and one environment, for whoever waits for it
    assert sentence.startswith("The GPU failed: CUDA error: an illegal memory access; that was loss 3 of this command")
    assert sentence.endswith("What was finished is stored; the same command goes on from there.")


def test_a_command_whose_lost_gpu_doesnt_come_back_is_not_given_a_cpu_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = GenerateJob.of(manifest="rows.parquet", store="out")
    assert kept_on_gpu(job) == job
    monkeypatch.setenv("PACKSHOT_GPU_LOSSES", "1")
    monkeypatch.setattr(ending_module, "surely_no_gpu", lambda: True)
    with pytest.raises(DeviceLost, match="hasn't come back"):
        kept_on_gpu(job)
    monkeypatch.setattr(ending_module, "surely_no_gpu", lambda: False)
    assert kept_on_gpu(job).hardware.device == "cuda"
    assert kept_on_gpu(job.with_values(device="cpu")).hardware.device == "cpu"


@pytest.mark.parametrize(
    ("error", "first"),
    [('DeviceLost("of another task")', "pass"), ("ending.error", "stop.set()")],
    ids=["no run", "stop"],
)
def test_a_command_is_begun_again_for_its_run_alone_and_not_where_it_was_asked_to_stop(
    tmp_path: Path, error: str, first: str
) -> None:
    processes, code, sentence = losing(tmp_path, error, first, PACKSHOT_GPU_LOSSES="none")
    assert (len(processes), code) == (1, 3)
    assert "begins again" not in sentence


@pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_characters_that_the_output_lacks_are_replaced(tmp_path: Path, settings: dict[str, str]) -> None:
    ended = command("review", "list", "--store", str(catalogue(tmp_path / "store", 1)), **settings)
    assert ended.returncode == 0, ended.stderr
    assert b"????????" in ended.stdout
    ended = command("policy", "check", "手枪", "--clip", "none", **settings)
    assert ended.returncode == 1, ended.stderr


@pytest.mark.parametrize(("words", "code"), [(["--json"], 0), ([], 0)])
def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path, words: list[str], code: int) -> None:
    store = catalogue(tmp_path / "store", 3000)
    reading = subprocess.Popen(
        [sys.executable, "-c", DOOR, "review", "list", "--store", str(store), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert reading.stdout is not None
    assert reading.stderr is not None
    reading.stdout.read(1)
    reading.stdout.close()
    assert reading.stderr.read() == b""
    reading.stderr.close()
    assert reading.wait() == code


def test_closed_output_ends_nothing(tmp_path: Path) -> None:
    store = catalogue(tmp_path / "store", 1)
    line = f'exec "$0" -c "$1" review list --store "{store}" >&- 2>&-'
    assert subprocess.run(["sh", "-c", line, sys.executable, DOOR], check=False).returncode == 0


@pytest.mark.parametrize(
    "words", [["review", "list", "--store", "{store}"], ["generate", "{manifest}", "--store", "{new}", "--dry-run"]]
)
def test_a_user_whom_the_system_doesnt_know_works_without_a_home(tmp_path: Path, words: list[str]) -> None:
    places = {
        "store": catalogue(tmp_path / "store", 1),
        "new": tmp_path / "new",
        "manifest": tmp_path / "manifest.parquet",
    }
    pq.write_table(pa.table({"id": ["row-0"], "prompt": ["a red mug"]}), places["manifest"])
    homeless = {"HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CACHE_HOME", "XDG_STATE_HOME"}
    unknown = f"import pwd\ndef getpwuid(uid): raise KeyError(uid)\npwd.getpwuid = getpwuid\n{DOOR}"
    ended = subprocess.run(
        [sys.executable, "-c", unknown, *(word.format(**places) for word in words)],
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name not in homeless},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith(b"There is no home folder")
    assert ended.stderr.strip().count(b"\n") == 0
    assert b"row" in ended.stdout
