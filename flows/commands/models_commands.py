"""`packshot models pull` and `verify`: checkpoints on disk or in a bucket."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.filesize import decimal

from flows.commands.exits import OK
from flows.commands.output import problems, say, terminal

FAULTY = 1  # a checkpoint that verify found something wrong with
REVISION = Annotated[str | None, typer.Option(help="Commit of a hub id, 40 hex digits.")]

app = typer.Typer(no_args_is_help=True, help="Checkpoints on disk or in a bucket: pulled, pinned, verified.")


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="Hub id such as Qwen/Qwen-Image, or s3:// address.")],
    to: Annotated[str, typer.Option(help="Folder, also one that machines share, or s3://bucket/prefix.")],
    revision: REVISION = None,
) -> None:
    """Fetch a checkpoint whole, or go on with fetching it: safetensors and settings, with an inventory of hashes."""
    from flows.views.moving import Bars
    from tasks.checkpoints.pull import pull

    with Bars(problems) as bars:
        inventory = pull(model, revision, to, bars)
    say(terminal, f"{to} holds {inventory}: {len(inventory.files)} files, {decimal(inventory.size)}.")


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="Folder, s3:// address, hub id in the hub's cache, or 'miniature'.")],
    revision: REVISION = None,
) -> None:
    """Read a checkpoint through: every file there and right, safetensors only, no code of its own."""
    from flows.views.findings import show_findings
    from flows.views.moving import Bars
    from tasks.checkpoints.verify import verify

    with Bars(problems) as bars:
        found = verify(model, revision, bars)
    for name, findings in found.items():
        show_findings(terminal, name, findings)
    raise SystemExit(FAULTY if any(findings.faults for findings in found.values()) else OK)
