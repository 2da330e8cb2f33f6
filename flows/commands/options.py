"""Options that several commands have, fields of a job as options, and the help that groups them by section."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import ByteSize
from typer.core import TyperCommand

from tasks.job import JobField

MANIFEST = Annotated[str, typer.Argument(help="Parquet file, folder, or s3:// address.")]
JOB_FILE = Annotated[Path | None, typer.Option(help="TOML file with any of the options below.")]
STORE = Annotated[str, typer.Option(help="s3://bucket/prefix, or a folder.")]
JSON = Annotated[bool, typer.Option("--json", help="Say it as JSON, for machines.")]

JUDGING = ("policy", "clip", "clip_revision", "device")
"""Fields of a job that decide what is refused, but for what a policy's probe says."""

Command = TypeVar("Command", bound=Callable[..., None])


class GroupedHelp(TyperCommand):
    """A command whose options are shown in groups, those of no section first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, each group under the title of its section, as panels would have them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            shown = parameter.get_help_record(ctx)
            if shown is not None:
                title = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or title, []).append(shown)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def takes(fields: Mapping[str, JobField], names: Iterable[str] | None = None) -> Callable[[Command], Command]:
    """Give a command an option for every field of a job, or for those of these names.

        @app.command()
        @takes(job_fields(Job), ["device", "precision"])
        def doctor(job: JOB_FILE = None, **fields: Any) -> None: ...

    They come to its `**fields`. A field that the command has as a parameter of its own is left to that.
    """

    def with_fields(command: Command) -> Command:
        parameters = {
            name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        for name in fields if names is None else names:
            parameters.setdefault(name, _option(name, fields[name]))
        command.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
        command.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
        return command

    return with_fields


def _option(name: str, given: JobField) -> inspect.Parameter:
    """Return a field as an option in its section: what isn't given is left to the job file, then to the job."""
    field = given.info
    kind: Any = field.annotation
    if get_origin(kind) is not Literal and type(None) in get_args(kind):
        (kind,) = (arg for arg in get_args(kind) if arg is not type(None))
    if get_origin(kind) is tuple:
        kind = GenericAlias(list, get_args(kind)[:1])  # the flag is given as many times as there are
    if kind is ByteSize:
        kind = str  # 24GiB
    shown = "" if field.default in (None, ()) or field.is_required() else f" [default: {field.default!s}]"
    option = typer.Option(help=f"{field.description}{shown}", show_default=False, rich_help_panel=given.title)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
