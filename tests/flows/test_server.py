"""A server of a command's own uses nothing of a person's; one that is named is reached as Prefect reaches it."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
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

from flows.prefect_settings import ServerError, named_server
from flows.server import own_server, prefect_server
from tasks.catalogue import read_catalogue
from tasks.prefect_check import check_prefect
from tasks.store import open_store
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
from flows.prefect_settings import import_prefect
import_prefect()
from flows.server import prefect_server
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
    path = str(Path(__file__).parents[2])
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
        http_proxy=dead,
        HTTPS_PROXY=dead,
        ALL_PROXY=dead,
        NO_PROXY="example.com",
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["Completed []", "/prefect example.com None"]
    assert sorted(home.iterdir()) == before


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sentence = r"^Prefect's temporary server didn't start: .*(disk|full|write|space)"
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
    monkeypatch.setattr("flows.server.start_child", refused)
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
