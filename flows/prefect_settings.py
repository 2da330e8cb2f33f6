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
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from models.temporary_folder import temporary_folder

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
    """What is wrong with settings, without their values, which may be secret."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
    return f"{type(error).__name__}, {error}".splitlines()[0].rstrip(".")


def named_server(environment: Mapping[str, str] = os.environ) -> str | None:
    """The address of the server that a person's settings name, looked for in Prefect's own order; None if none does.

    A file that can't be read names none.
    """
    given = {name.upper(): value for name, value in environment.items()}
    if ADDRESS in given:
        return given[ADDRESS] or None
    dotenv = _dotenv()
    prefect, project = _toml(Path("prefect.toml")), _below(_toml(Path("pyproject.toml")), "tool", "prefect")
    found = (
        dotenv.get(ADDRESS),
        _below(prefect, "api").get("url"),
        _below(project, "api").get("url"),
        _profile(_profiles(given, dotenv, prefect, project), given).get(ADDRESS),
    )
    return next((str(address) for address in found if address), None)


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
        with _files_unread(folder):
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
    """What Prefect is told in the person's place."""
    return {
        **QUIET,
        **PATIENT,
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_UI_ENABLED": "false",
    }


def environment_of_our_own(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a server of our own: it speaks to nobody, so it needs no proxy either."""
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
def _replaced(owner: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _bypass(environment: Mapping[str, str]) -> dict[str, str]:
    """No proxy between this machine and itself: the variable that says so, in the spelling that is read first."""
    name = "no_proxy" if "no_proxy" in environment else "NO_PROXY"
    listed = environment.get(name, "")
    return {
        name: listed if LOOPBACK in listed.split(",") or listed == "*" else ",".join(filter(None, [listed, LOOPBACK]))
    }


def _home(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """A home for Prefect where the user has none: it looks for one when it is imported (Prefect 3.8.8)."""
    return {} if "HOME" in environment else {"HOME": str(folder)}


def _dotenv() -> Mapping[str, str | None]:
    try:
        return {name.upper(): value for name, value in dotenv_values(".env").items()}
    except (OSError, ValueError):
        return {}


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _below(table: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = table.get(name)
        if not isinstance(found, dict):
            return {}
        table = found
    return table


def _profiles(
    given: Mapping[str, str],
    dotenv: Mapping[str, str | None],
    prefect: Mapping[str, Any],
    project: Mapping[str, Any],
) -> Mapping[str, Any]:
    """The file of profiles, which may be anywhere."""
    home = given.get("PREFECT_HOME")
    named = (
        given.get("PREFECT_PROFILES_PATH"),
        dotenv.get("PREFECT_PROFILES_PATH"),
        prefect.get("profiles_path"),
        project.get("profiles_path"),
        home and f"{home}/profiles.toml",
    )
    try:
        return _toml(Path(next((str(path) for path in named if path), "~/.prefect/profiles.toml")).expanduser())
    except RuntimeError:  # nobody's home
        return {}


def _profile(profiles: Mapping[str, Any], given: Mapping[str, str]) -> Mapping[str, Any]:
    """The settings of the active profile; those that come with Prefect name no server."""
    return _below(profiles, "profiles", str(given.get("PREFECT_PROFILE") or profiles.get("active")))
