"""Whose settings Prefect works with: a person's where they name a server, and else nobody's.

Prefect reads settings from the environment, from `.env`, `prefect.toml` and `pyproject.toml` where a command is given,
and from the active profile; and it reads them when it is imported (Prefect 3.8.8). They are about servers that people
have: databases, passwords, logging. A command that brings up a server of its own needs none of that, and shouldn't
fail of it either. So nothing here imports Prefect before that is settled.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from models.files.temporary_folder import temporary_folder

ADDRESS = "PREFECT_API_URL"
QUIET = {
    # What a run says is in its report and in Prefect; a terminal is for what a person can act on.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
PATIENT = {
    # A server that is away at the end of a run is waited for so long: for a minute and a half where it hangs.
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "PREFECT_API_REQUEST_TIMEOUT": "30",
}
UNUSED_SERVICES = (
    # Deployments, automations and old runs are what these look after; a server that ends with its command has none.
    *("CANCELLATION_CLEANUP", "CLEANUP_RECONCILER", "EVENT_PERSISTER", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS"),
    *("REPOSSESSOR", "SCHEDULER", "TRIGGERS"),
)
SHIPPED_PROFILES = ("ephemeral", "local", "cloud", "test")  # which come with Prefect 3.8.8 and name no server
LOOPBACK = "127.0.0.1"


class ServerError(Exception):
    """The Prefect server is out of reach. One sentence."""


def import_prefect() -> None:
    """Import Prefect, with the person's settings if they name a server.

    Raises:
        ServerError: if it can't read these.
    """
    if named_server() is None:
        with temporary_folder() as folder, nobodys_settings(folder):
            return
    try:
        with redirect_stderr(StringIO()):  # where it shows settings that it can't read, with their values
            import_module("prefect.context")
    except Exception as error:
        raise ServerError(f"Prefect's settings can't be read: {_of_settings(error)}.") from error


def _of_settings(error: Exception) -> str:
    """Return what is wrong with settings, without their values, which may be secret."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
    return f"{type(error).__name__}, {error}".splitlines()[0].rstrip(".")


@dataclass(frozen=True)
class PersonsServer:
    """What a person's settings say of the server to use."""

    address: str | None  # None: they name none
    passed_over: tuple[str, ...] = ()  # what they say that nobody can follow, in sentences


def named_server(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of the server that a person's settings name; None if none does.

    Raises:
        ServerError: as `find_server`.
    """
    return find_server(environment).address


def find_server(environment: Mapping[str, str] = os.environ) -> PersonsServer:
    """Look for a server in a person's settings, in Prefect's own order.

    Raises:
        ServerError: if a file can't be read that may name it.
    """
    given = {name.upper(): value for name, value in environment.items()}
    if ADDRESS in given:
        return PersonsServer(given[ADDRESS] or None)
    dotenv = _dotenv()
    prefect, project = _toml(Path("prefect.toml"), "url"), _toml(Path("pyproject.toml"), "tool.prefect")
    of_project = _below(project.table, "tool", "prefect")
    profiles = _profiles(given, dotenv.table, prefect.table, of_project)
    profile, missing = _profile(profiles, given)
    found = (
        (dotenv, dotenv.table.get(ADDRESS)),
        (prefect, _below(prefect.table, "api").get("url")),
        (project, _below(of_project, "api").get("url")),
        (profiles, profile.get(ADDRESS)),
    )
    passed_over = tuple(file.sentence for file, _ in found if file.trouble)
    for file, address in found:
        if address:
            return PersonsServer(str(address), passed_over)
        if file.may_name_server:
            raise ServerError(
                f"Prefect's settings in {file.path} can't be read ({file.trouble}), and may name a server: mend them, "
                f"or set {ADDRESS} (to nothing for a server of the command's own)."
            )
    return PersonsServer(None, (*passed_over, *missing))


@contextmanager
def nobodys_settings(folder: Path) -> Iterator[None]:
    """Have Prefect read settings that are none of the person's; `folder` is its home, and where it is imported."""
    persons = {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_")}
    beside = _bypass(os.environ) | _home(os.environ, folder)
    before = {name: os.environ.get(name) for name in beside}
    for name in persons:
        del os.environ[name]
    os.environ.update(beside | settings_of_our_own(folder))
    try:
        with _files_unread(folder), _proxies_unread():
            yield
    finally:
        for name in settings_of_our_own(folder):
            os.environ.pop(name, None)
        os.environ.update(persons)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def settings_of_our_own(folder: Path) -> dict[str, str]:
    """Return what Prefect is told in the person's place."""
    return {
        **QUIET,
        **PATIENT,
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_UI_ENABLED": "false",
    }


def environment_of_our_own(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a server of our own: it speaks to nobody, so it needs no proxy either."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith("PREFECT_") and not name.upper().endswith("_PROXY")
    }
    return {
        **kept,
        **_home(kept, folder),
        **settings_of_our_own(folder),
        "PREFECT__SERVER_EPHEMERAL": "1",
        **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in UNUSED_SERVICES},
        # Task runs are written together, instead of each change of each of them by itself.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",  # nobody sees it, and it says why a server doesn't start
    }


@contextmanager
def _files_unread(folder: Path) -> Iterator[None]:
    """Keep Prefect from `.env`, `prefect.toml` and `pyproject.toml` of the folder that the command was given in."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        try:
            from prefect.context import SettingsContext
            from prefect.settings import Profile, Settings, sources

            settings = Settings()
        finally:
            os.fchdir(here)
    finally:
        os.close(here)
    read = sources._read_toml_file
    # What changes one setting reads all of them again from where they are (Prefect 3.8.8), now as from that folder.
    with (
        _replaced(sources, "_read_toml_file", lambda path: read(path) if path.is_absolute() else {}),
        _replaced(sources.FilteredDotEnvSettingsSource, "_read_env_files", lambda _: {}),
        SettingsContext(profile=Profile(name="packshot", settings={}), settings=settings),
    ):
        yield


@contextmanager
def _proxies_unread() -> Iterator[None]:
    """Keep Prefect's client from proxies: it gets ready for each that is set, and fails where it can't (httpx 0.28).

    Nobody but Prefect uses this httpx.
    """
    from httpx import _client

    with _replaced(_client, "get_environment_proxies", dict):
        yield


@contextmanager
def _replaced(owner: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _bypass(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that keeps proxies from between this machine and itself, spelled as it is read first."""
    name = "no_proxy" if "no_proxy" in environment else "NO_PROXY"
    listed = environment.get(name, "")
    return {
        name: listed if LOOPBACK in listed.split(",") or listed == "*" else ",".join(filter(None, [listed, LOOPBACK]))
    }


def _home(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return a home for Prefect where the user has none: it looks for one when it is imported (Prefect 3.8.8)."""
    return {} if "HOME" in environment else {"HOME": str(folder)}


@dataclass(frozen=True)
class _File:
    """A file of settings, as far as it can be read."""

    path: Path
    table: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""  # why it can't be read
    may_name_server: bool = False  # what can't be read of it
    is_there: bool = True

    @property
    def sentence(self) -> str:
        return f"Prefect's settings in {self.path} are passed over, because they can't be read: {self.trouble}."


def _dotenv() -> _File:
    return _read(
        Path(".env"), ADDRESS, lambda text: {n.upper(): v for n, v in dotenv_values(stream=StringIO(text)).items()}
    )


def _toml(path: Path, of_server: str) -> _File:
    return _read(path, of_server, tomllib.loads)


def _read(path: Path, of_server: str, parse: Callable[[str], Mapping[str, Any]]) -> _File:
    """Read a file; `of_server` is a text in it without which it names no server."""
    try:
        content = path.read_bytes()
    except OSError as error:
        if not os.path.isfile(path):  # noqa: PTH113  Path.is_file raises where a folder may not be looked into
            return _File(path, is_there=False)
        return _File(path, trouble=error.strerror or type(error).__name__, may_name_server=True)
    try:
        return _File(path, parse(content.decode()))
    except ValueError as error:
        trouble = "it isn't UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
        return _File(path, trouble=trouble, may_name_server=of_server.encode() in content)


def _below(table: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = table.get(name)
        if not isinstance(found, dict):
            return {}
        table = found
    return table


def _profiles(
    given: Mapping[str, str],
    dotenv: Mapping[str, Any],
    prefect: Mapping[str, Any],
    project: Mapping[str, Any],
) -> _File:
    """Return the file of profiles, which may be anywhere."""
    home = given.get("PREFECT_HOME")
    named = (
        given.get("PREFECT_PROFILES_PATH"),
        dotenv.get("PREFECT_PROFILES_PATH"),
        prefect.get("profiles_path"),
        project.get("profiles_path"),
        home and f"{home}/profiles.toml",
    )
    path = Path(next((str(path) for path in named if path), "~/.prefect/profiles.toml"))
    try:
        return _toml(path.expanduser(), ADDRESS)
    except RuntimeError:  # nobody's home
        return _File(path, is_there=False)


def _profile(profiles: _File, given: Mapping[str, str]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the settings of the active profile, and what to say where there is no such profile."""
    if not profiles.is_there and given.get("PREFECT_PROFILES_PATH"):
        return {}, (f"There is no file {profiles.path}, which PREFECT_PROFILES_PATH names, so no profile is used.",)
    named = given.get("PREFECT_PROFILE") or profiles.table.get("active")
    settings = _below(profiles.table, "profiles", str(named))
    if named is None or named in SHIPPED_PROFILES or profiles.trouble or settings:
        return settings, ()
    if isinstance(_below(profiles.table, "profiles").get(str(named)), dict):  # an empty one
        return settings, ()
    return {}, (f"Prefect's active profile, {named!r}, isn't in {profiles.path}, so none is used.",)
