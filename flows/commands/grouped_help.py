"""The help of a command that has an option for every field of a job: its options by the job's sections."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


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
