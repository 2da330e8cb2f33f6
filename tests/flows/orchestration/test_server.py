"""A server of a command's own uses nothing of a person's; one that is named is reached as Prefect reaches it."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import prefect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    Settings,
    temporary_settings,
)

from flows.commands.doctor_checks import checks_of
from flows.orchestration.prefect_settings import ServerError, find_server, named_server
from flows.orchestration.server import own_server, prefect_server
from models.finding import Finding
from tasks.catalogue.catalogue import read_catalogue
from tasks.doctor.prefect_check import check_prefect
from tasks.job import GenerateJob
from tasks.stores.opening import open_store
from tests.certificates import certificate
from tests.small_disk import small_disk
from tests.tasks.bad_server import BadServer, sends, serving

VERSION = "/api/admin/version"
SAYS_VERSION = sends(f'"{prefect.__version__}"'.encode(), content_type="application/json")
FLOW = """
import os, pwd
del os.environ["HOME"]
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from flows.orchestration.prefect_settings import import_prefect
import_prefect()
from flows.orchestration.server import prefect_server
with prefect_server() as address:
    from prefect import flow
    from prefect.client.orchestration import get_client
    state = flow(lambda: 1, name="one")(return_state=True)
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs()
    print(run.state_name, sorted(name for name in os.environ if "BASE_PATH" in name))
print(os.environ["PREFECT_SERVER_API_BASE_PATH"], os.environ.get("NO_PROXY"), os.environ.get("HOME"))
"""


def python(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    here = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = str(Path(__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**here, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_server_of_its_own_uses_nothing_of_the_persons(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "profiles.toml").write_text("active = [broken")
    (home / "prefect.db").write_text("of another revision")
    (tmp_path / "prefect.toml").write_text("[api]\nrequest_timeout = ")
    (tmp_path / ".env").write_text("PREFECT_CLIENT_MAX_RETRIES=many\n")
    (tmp_path / "logging.yml").write_text("version: {")
    dead = "http://127.0.0.1:9"
    before = sorted(home.iterdir())

    ended = python(
        FLOW,
        tmp_path,
        PREFECT_HOME=str(home),
        PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://nobody@127.0.0.1:9/none",
        PREFECT_SERVER_API_BASE_PATH="/prefect",
        PREFECT_SERVER_API_AUTH_STRING="admin:secret",
        PREFECT_API_KEY="key",
        PREFECT_API_REQUEST_TIMEOUT="soon",
        PREFECT_LOGGING_SETTINGS_PATH=str(tmp_path / "logging.yml"),
        PREFECT_CLIENT_CUSTOM_HEADERS="no JSON",
        HTTP_PROXY=dead,
        http_proxy="http://a b:port",
        HTTPS_PROXY="foo://bar",
        ALL_PROXY="socks5://127.0.0.1:9",
        NO_PROXY="example.com",
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["Completed []", "/prefect example.com None"]
    assert sorted(home.iterdir()) == before


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sentence = r"^Prefect's temporary server didn't start: .*disk.* Its database is in .*: make room there, or set"
    with small_disk("16k") as full, pytest.raises(ServerError, match=sentence), own_server(full):
        pass


def test_an_empty_database_that_was_damaged_is_made_again(
    prefect_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del prefect_address  # its start has left an empty database in the tests' cache
    kept = Path(os.environ["XDG_CACHE_HOME"]) / "packshot" / f"prefect-{prefect.__version__}.db"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "packshot").mkdir(parents=True)
    damaged = shutil.copy(kept, tmp_path / "cache" / "packshot")
    content = Path(damaged).read_bytes()
    Path(damaged).write_bytes(content[: len(content) // 2])
    monkeypatch.setattr("flows.orchestration.server.start_child", refused)
    with pytest.raises(ServerError, match="can't be started: nothing starts here"), own_server(tmp_path):
        pass
    assert not (tmp_path / "prefect.db").exists()


def refused(*_: object, **__: object) -> None:
    raise OSError("nothing starts here")


@pytest.fixture
def gateway() -> Iterator[BadServer]:
    """Lets nobody through who doesn't give a word in a header."""
    with serving() as server:

        def answer(connection: object) -> None:
            allowed = server.requests[-1].headers.get("x-gateway") == "sesame"
            (SAYS_VERSION if allowed else sends(status="403 Forbidden"))(connection)  # type: ignore[arg-type]

        server.answers[VERSION] = [answer]
        yield server


def test_a_named_server_is_reached_with_the_headers_that_prefect_sends(gateway: BadServer) -> None:
    with temporary_settings({PREFECT_API_URL: gateway.address("/api")}):
        with pytest.raises(ServerError, match=r"refuses us \(status 403\)"), prefect_server():
            pass
        with temporary_settings({PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Gateway": "sesame"}}), prefect_server() as address:
            assert address == gateway.address("/api")
            assert [finding.status for finding in check_prefect()] == ["ok"]


def test_a_named_server_is_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address(""))
        proxy.answers["http://prefect.invalid/api/admin/version"] = [SAYS_VERSION]
        with temporary_settings({PREFECT_API_URL: "http://prefect.invalid/api"}), prefect_server():
            assert [finding.status for finding in check_prefect()] == ["ok"]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "foo://bar", "http://127.0.0.1:port"])
def test_a_named_server_whose_proxy_is_none_cant_be_asked(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    address = "http://prefect.invalid/api"
    sentence = rf"^The Prefect server at {address} can't be asked: .*\. Mend .*, or the variables that name proxies\.$"
    with (
        temporary_settings({PREFECT_API_URL: address}),
        pytest.raises(ServerError, match=sentence),
        prefect_server(),
    ):
        pass


def test_a_named_server_is_trusted_as_prefect_was_told_to(tmp_path: Path) -> None:
    files = tmp_path / "chain.pem", tmp_path / "key.pem"
    for file, content in zip(files, certificate(), strict=True):
        file.write_bytes(content)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(*files)
    with serving(trust) as server, temporary_settings({PREFECT_API_URL: f"https://{server.host}/api"}):
        server.answers[VERSION] = [SAYS_VERSION]
        with pytest.raises(ServerError, match="doesn't answer"), prefect_server():  # nobody signed that certificate
            pass
        with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}), prefect_server():
            pass
        with (
            temporary_settings({PREFECT_API_SSL_CERT_FILE: str(tmp_path / "absent.pem")}),
            pytest.raises(ServerError, match=r"can't be asked: .*PREFECT_API_SSL_CERT_FILE"),
            prefect_server(),
        ):
            pass


@pytest.mark.parametrize(
    ("files", "environment", "address"),
    [
        ({}, {}, None),
        ({"profiles.toml": 'active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://a/api"'}, {}, "http://a/api"),
        ({"profiles.toml": 'active = "a"\n[profiles.b]\nPREFECT_API_URL = "http://b/api"'}, {}, None),
        (
            {"profiles.toml": 'active = "a"\n[profiles.b]\nPREFECT_API_URL = "http://b/api"'},
            {"PREFECT_PROFILE": "b"},
            "http://b/api",
        ),
        ({"profiles.toml": 'active = "local"'}, {}, None),
        ({"prefect.toml": '[api]\nurl = "http://c/api"'}, {}, "http://c/api"),
        ({"pyproject.toml": '[tool.prefect.api]\nurl = "http://d/api"'}, {}, "http://d/api"),
        ({".env": "PREFECT_API_URL=http://e/api", "prefect.toml": '[api]\nurl = "http://c/api"'}, {}, "http://e/api"),
        ({".env": "PREFECT_API_URL=http://e/api"}, {"PREFECT_API_URL": "http://f/api"}, "http://f/api"),
    ],
)
def test_a_server_is_named_wherever_prefect_looks_for_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    environment: dict[str, str],
    address: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    for name, value in {"PREFECT_HOME": str(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)

    assert named_server() == address
    assert Settings().api.url == address  # as Prefect itself finds it


def seen_by_doctor() -> Sequence[Finding]:
    (check,) = (one for one in checks_of(GenerateJob.of(manifest="", store="")) if one.name == "Prefect")
    return check.look()


@pytest.fixture
def nobodys_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to give commands in, and Prefect's home, without settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (
            "profiles.toml",
            b"active = [broken",
            r"settings in .*/profiles\.toml are passed over, .* \(?at line 1|end of",
        ),
        (
            "profiles.toml",
            b"active = 'gone'\n[profiles.b]\nA = 'x'",
            "active profile, 'gone', isn't in .*/profiles.toml",
        ),
        ("profiles.toml", b"profiles = 3\nactive = 'gone'", "active profile, 'gone', isn't in"),
        ("profiles.toml", b"# \xff", "are passed over, because they can't be read: it isn't UTF-8"),
        ("prefect.toml", b"[api]\nrequest_timeout = ", "settings in prefect.toml are passed over"),
        ("pyproject.toml", b"[project", "settings in pyproject.toml are passed over"),
        (".env", b"\xff", "settings in .env are passed over"),
    ],
)
def test_settings_that_cant_be_read_are_passed_over_with_a_word(
    nobodys_folder: Path, file: str, content: bytes, sentence: str
) -> None:
    (nobodys_folder / file).write_bytes(content)
    found = find_server()
    assert found.address is None
    (said,) = found.passed_over
    assert re.search(sentence, said), said
    (finding, _) = seen_by_doctor()
    assert (finding.status, finding.found) == ("warning", said)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("profiles.toml", b"[profiles.a]\nPREFECT_API_URL = 'http://a/api'\nactive = [broken"),
        ("prefect.toml", b"[api]\nurl = http://a/api"),
        ("pyproject.toml", b"[tool.prefect]\napi = http://a/api"),
        (".env", b"PREFECT_API_URL=http://a/\xff"),
    ],
)
def test_settings_that_cant_be_read_and_may_name_a_server_are_refused(
    nobodys_folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: bytes
) -> None:
    (nobodys_folder / file).write_bytes(content)
    with pytest.raises(ServerError, match=rf"{file} can't be read \(.*\), and may name a server: mend them, or set"):
        find_server()
    (finding,) = seen_by_doctor()
    assert finding.status == "failed"
    for address in ("", "http://b/api"):
        monkeypatch.setenv("PREFECT_API_URL", address)
        assert named_server() == (address or None)


@pytest.mark.parametrize(
    ("profiles", "code", "sentences"),
    [
        ("active = [broken", 2, ["profiles.toml are passed over", "There is no manifest"]),
        ("PREFECT_API_URL = broken", 3, ["and may name a server"]),
    ],
)
def test_a_command_says_what_it_cant_read_of_prefects_settings(
    tmp_path: Path, profiles: str, code: int, sentences: list[str]
) -> None:
    (tmp_path / "profiles.toml").write_text(profiles)
    words = "import sys; sys.argv[1:] = 'generate rows.parquet --store out --device cpu'.split()"
    ended = python(f"{words}; from flows.command import main; main()", tmp_path, PREFECT_HOME=str(tmp_path))
    assert ended.returncode == code, ended.stderr
    for sentence, line in zip(sentences, ended.stderr.splitlines(), strict=True):
        assert sentence in line


def test_profiles_that_are_not_where_they_are_said_to_be_are_told(
    nobodys_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(nobodys_folder / "absent.toml"))
    (said,) = find_server().passed_over
    assert "absent.toml, which PREFECT_PROFILES_PATH names" in said
    monkeypatch.delenv("PREFECT_PROFILES_PATH")
    monkeypatch.setenv("PREFECT_PROFILE", "local")
    assert find_server().passed_over == ()


@pytest.mark.parametrize(
    ("environment", "code", "sentence"),
    [
        ({}, 3, "The Prefect server at {address} refuses us (status 401). Set PREFECT_API_AUTH_STRING"),
        ({"PREFECT_API_REQUEST_TIMEOUT": "hunter2"}, 3, "Prefect's settings can't be read: request_timeout"),
    ],
)
def test_a_server_that_cannot_be_used_is_a_sentence_of_the_command(
    tmp_path: Path, environment: dict[str, str], code: int, sentence: str
) -> None:
    pq.write_table(pa.table({"id": ["a"], "prompt": ["a mug"]}), tmp_path / "rows.parquet")
    command = "from flows.command import main; main()"
    script = f"import sys; sys.argv[1:] = 'generate rows.parquet --store out --device cpu'.split(); {command}"
    with serving() as server:
        server.answers[VERSION] = [sends(status="401 Unauthorized")]
        address = server.address("/api")
        ended = python(script, tmp_path, PREFECT_API_URL=address, PREFECT_HOME=str(tmp_path), **environment)
    assert ended.returncode == code, ended.stderr
    assert sentence.format(address=address) in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert "hunter2" not in ended.stderr
    assert not read_catalogue(open_store(str(tmp_path / "out"))).state.editors
