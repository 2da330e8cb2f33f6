"""The command line: `packshot generate MANIFEST --store URI`."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import typer
from pydantic import ByteSize
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.filesize import decimal
from typer.core import TyperGroup

from flows.commands.exits import OK, ROWS_FAILED, command_of, end_of
from flows.commands.output import open_output
from flows.orchestration import prefect_settings
from flows.orchestration.ending import MOST_LOSSES, ending, kept_on_gpu, leave, lost_gpus, own_process
from tasks.errors import RequestError
from tasks.job import DecomposeJob, GenerateJob, Job, load_job, load_job_to_check
from tasks.outcome import Retry

FAULTY = 1  # a checkpoint that verify found something wrong with
NOT_DECIDED = 1  # an answer of somebody else's stands
REFUSED = 1  # a prompt or picture that was checked
QUIET = {
    **prefect_settings.QUIET,
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}

JOB_FILE = (Annotated[Path | None, typer.Option(help="TOML file with any of the options below.")], None)
EXAMINED = (
    "store",
    "model",
    "revision",
    "loras",
    "controlnet",
    "controlnet_revision",
    "clip",
    "clip_revision",
    "device",
    "precision",
    "attention",
    "step_cache",
    "fused",
    "placement",
    "gpu_memory",
    "memory_fraction",
    "batch",
)
"""Fields of a job that a doctor has a flag for."""
JUDGING = ("policy", "clip", "clip_revision", "device")
"""Those that decide what is refused, but for what a policy's probe says."""
READING = ("model", "revision", "device", "precision", "gpu_memory", "memory_fraction")
"""Those that decide how prompts are read."""
CHECKING = (*JUDGING, "model", "revision", "precision")
"""Those and what a probe goes by."""
OF_ROWS = (
    *("model", "revision", "loras", "scheduler", "policy", "clip", "profile", "aigc_producer", "c2pa_certificate"),
    *("c2pa_key", "prompt_template", "width", "height", "steps", "guidance", "variants", "controlnet", "layers"),
    "resolution",
)
"""Those that decide which rows of a manifest fail before a picture is looked at."""
CALIBRATING = (*JUDGING, "image_hosts", "max_image_bytes", "max_image_pixels")
"""Those that decide what is measured, and which pictures are read for it."""

AGAIN = "the command begins again in a new process."
FOR_GOOD = (
    "that was loss {} of this command, so see what the driver says of it (nvidia-smi, dmesg). What was finished is "
    "stored; the same command goes on from there."
)


class Door(TyperGroup):
    """The command with all that are below it: whatever comes up in one ends it with a sentence and an exit code."""

    def invoke(self, context: typer.Context) -> Any:  # type: ignore[override]
        try:
            with _home():
                return super().invoke(context)
        except (SystemExit, typer.Exit, typer.TyperException):  # the last say what is wrong with the words
            raise
        except BaseException as error:  # noqa: BLE001  nothing leaves this as a traceback
            _end(error)


app = typer.Typer(
    cls=Door, add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
models = typer.Typer(no_args_is_help=True, help="Checkpoints on disk or in a bucket: pulled, pinned, verified.")
app.add_typer(models, name="models")
manifests = typer.Typer(no_args_is_help=True, help="What a run would make of a manifest.")
app.add_typer(manifests, name="manifest")
policy = typer.Typer(no_args_is_help=True, help="What is refused, and why.")
app.add_typer(policy, name="policy")
review = typer.Typer(no_args_is_help=True, help="What waits for a person, and a person's answers.")
app.add_typer(review, name="review")
terminal, problems = Console(), Console(stderr=True)


@app.callback()
def packshot() -> None:
    """Catalogue pictures in bulk: a manifest of prompts or pictures in, what is fit to publish and a catalogue out."""


def run_job(
    kind: type[Job],
    manifest: str,
    job: Path | None,
    limit: int | None,
    retry: list[Retry] | None,
    retire_missing: bool,
    dry_run: bool,
    **fields: Any,
) -> None:
    """Run a job, or say what it would do."""
    whole = load_job(kind, job, manifest=manifest, **fields)
    again = frozenset(retry or ())
    if dry_run:
        from flows.commands.terminal import show_estimate
        from tasks.runs.prepare import Request, estimate

        show_estimate(terminal, estimate(Request(whole, limit, again, retire_missing)))
        return
    from flows.commands.terminal import run_in_terminal, show_summary

    summary = run_in_terminal(problems, kept_on_gpu(whole), limit, again, retire_missing=retire_missing)
    show_summary(terminal, summary)
    raise SystemExit(ROWS_FAILED if summary.is_partial else OK)


def generate(**values: Any) -> None:
    """Generate the pictures of a manifest of prompts, and say what became of every row."""
    run_job(GenerateJob, **values)


def decompose(**values: Any) -> None:
    """Take the pictures of a manifest apart into layers, and say what became of every row."""
    run_job(DecomposeJob, **values)


def _job_flags(kind: type[Job]) -> inspect.Signature:
    """Every field of a job as a flag, so that none is forgotten when one is added."""
    own = {
        "manifest": (Annotated[str, typer.Argument(help="Parquet file, folder, or s3:// address.")], ...),
        "job": JOB_FILE,
        "limit": (Annotated[int | None, typer.Option(min=1, help="Only the manifest's first rows.")], None),
        "retry": (Annotated[list[Retry] | None, typer.Option(help="Do the rows again that ended so.")], None),
        "retire_missing": (
            Annotated[bool, typer.Option("--retire-missing", help="Withdraw rows that left the manifest.")],
            False,
        ),
        "dry_run": (Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")], False),
    }
    fields = {name: _flag(field) for name, field in kind.model_fields.items() if name != "manifest"}
    return _signature({**own, **fields})


def _signature(flags: dict[str, tuple[Any, Any]]) -> inspect.Signature:
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=inspect.Parameter.empty if default is ... else default,
            )
            for name, (kind, default) in flags.items()
        ]
    )


def _flag(field: FieldInfo) -> tuple[Any, None]:
    """A field as an option. Its default is None: what isn't given is left to the job file, then to the model."""
    kind: Any = field.annotation
    if get_origin(kind) is not Literal and type(None) in get_args(kind):
        (kind,) = (arg for arg in get_args(kind) if arg is not type(None))
    if get_origin(kind) is tuple:
        kind = GenericAlias(list, get_args(kind)[:1])  # the flag is given as many times as there are
    if kind is ByteSize:
        kind = str  # 24GiB
    shown = "" if field.default in (None, ()) or field.is_required() else f" [default: {field.default!s}]"
    return Annotated[kind | None, typer.Option(help=f"{field.description}{shown}", show_default=False)], None


def _register(
    command: Callable[..., None], signature: inspect.Signature, under: typer.Typer = app, **settings: Any
) -> None:
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    under.command(**settings)(command)


_register(generate, _job_flags(GenerateJob))
_register(decompose, _job_flags(DecomposeJob))


@app.command()
def report(store: Annotated[str, typer.Option(help="s3://bucket/prefix, or a folder.")]) -> None:
    """Show what a store's catalogue holds, and write the page about all of it."""
    from flows.commands.terminal import show_summary
    from tasks.runs.finish import report_store

    show_summary(terminal, report_store(store))


def doctor(json: bool, job: Path | None, **fields: Any) -> None:
    """Say what will work and what won't, from the GPU's driver to the store, and what to do about it."""
    examined = load_job_to_check(job, **fields)
    from flows.commands.doctor import checks_of, document, exit_code, show_findings
    from tasks.doctor.examine import examine

    coming = examine(checks_of(examined))
    findings = list(coming) if json else show_findings(terminal, coming)
    if json:
        typer.echo(dumps(document(findings), indent=2, ensure_ascii=False))
    raise SystemExit(exit_code(findings))


def _doctor_flags() -> inspect.Signature:
    own = {
        "json": (Annotated[bool, typer.Option("--json", help="Say it as JSON, for machines.")], False),
        "job": JOB_FILE,
    }
    return _signature({**own, **{name: _flag(GenerateJob.model_fields[name]) for name in EXAMINED}})


_register(doctor, _doctor_flags())


def check(prompt: str | None, picture: Path | None, json: bool, job: Path | None, **fields: Any) -> None:
    """Say what the policy makes of a prompt, of a picture, or of a picture beside its prompt: which rule, how near."""
    if prompt is None and picture is None:
        raise RequestError("There is nothing to check: give a prompt, or a picture with --picture FILE.")
    judged = load_job_to_check(job, **fields)
    from flows.views.explanations import document, show_explanation
    from tasks.calibration.explain import ask_probe, explain_picture, explain_prompt, judges_of

    judges = judges_of(judged)
    said = []
    if prompt is not None:
        said.append(explain_prompt(prompt, judges, ask_probe(prompt, judged, judges.policy)))
    if picture is not None:
        said.append(explain_picture(picture, prompt, judges))
    if json:
        typer.echo(dumps(document(judges.policy, said), indent=2, ensure_ascii=False))
    else:
        for one in said:
            show_explanation(terminal, one)
    raise SystemExit(OK if all(one.verdict.allowed for one in said) else REFUSED)


def _check_flags() -> inspect.Signature:
    own = {
        "prompt": (Annotated[str | None, typer.Argument(help="The prompt.")], None),
        "picture": (
            Annotated[Path | None, typer.Option(help="A picture; the prompt is then what it was made of.")],
            None,
        ),
        "json": (Annotated[bool, typer.Option("--json", help="Say it as JSON, for machines.")], False),
        "job": JOB_FILE,
    }
    return _signature({**own, **{name: _flag(GenerateJob.model_fields[name]) for name in CHECKING}})


_register(check, _check_flags(), policy)


def check_manifest(
    manifest: str,
    kind: Literal["generate", "decompose"] | None,
    store: str | None,
    json: bool,
    job: Path | None,
    **fields: Any,
) -> None:
    """Say which rows of a manifest would fail and why, and what looks wrong, without a model, in seconds."""
    from flows.views.manifest_findings import document, show_checked
    from tasks.runs import manifest_check

    given = {name: value for name, value in fields.items() if value is not None}
    checked = manifest_check.check_manifest(manifest, job, kind, store=store, **given)
    if json:
        typer.echo(dumps(document(checked), indent=2, ensure_ascii=False))
    else:
        show_checked(terminal, checked)
    raise SystemExit(ROWS_FAILED if checked.would_fail else OK)


def _manifest_flags() -> inspect.Signature:
    own = {
        "manifest": (Annotated[str, typer.Argument(help="Parquet file, folder, or s3:// address.")], ...),
        "kind": (
            Annotated[
                Literal["generate", "decompose"] | None,
                typer.Option(help="The job that it is for. [default: by its columns]", show_default=False),
            ],
            None,
        ),
        "store": (
            Annotated[
                str | None,
                typer.Option(help="Whose catalogue the carried columns have to fit, too.", show_default=False),
            ],
            None,
        ),
        "json": (Annotated[bool, typer.Option("--json", help="Say it as JSON, for machines.")], False),
        "job": JOB_FILE,
    }
    known = {**DecomposeJob.model_fields, **GenerateJob.model_fields}
    return _signature({**own, **{name: _flag(known[name]) for name in OF_ROWS}})


_register(check_manifest, _manifest_flags(), manifests, name="check")


def probe(
    examples: str, out: Path, false_positives: float, review: list[str] | None, job: Path | None, **fields: Any
) -> None:
    """Train a probe for a policy: what the model's own text encoder makes of labelled prompts, weighed by concept."""
    trained_for = load_job_to_check(job, **fields)
    from flows.views.probe_figures import show_probe
    from tasks.calibration.train_probe import train_probe

    trained = train_probe(trained_for, examples, out, max_false_positives=false_positives, review=tuple(review or ()))
    show_probe(terminal, trained, out)


def _probe_flags() -> inspect.Signature:
    own = {
        "examples": (
            Annotated[str, typer.Argument(help="Parquet or CSV with columns prompt and label: safe, or concepts.")],
            ...,
        ),
        "out": (Annotated[Path, typer.Option(help="File to write: mine.probe.safetensors.")], ...),
        "false_positives": (
            Annotated[float, typer.Option(min=0, max=0.5, help="Share of safe prompts that a concept may refuse.")],
            0.01,
        ),
        "review": (Annotated[list[str] | None, typer.Option(help="Concept that asks a person; others block.")], None),
        "job": JOB_FILE,
    }
    return _signature({**own, **{name: _flag(GenerateJob.model_fields[name]) for name in READING}})


_register(probe, _probe_flags())


def calibrate(
    examples: str, out: Path, false_positives: float, held_out: float, job: Path | None, **fields: Any
) -> None:
    """Choose a policy's thresholds by labelled prompts and pictures, and write it with a page about its mistakes."""
    base = load_job_to_check(job, **fields)
    from flows.views.calibrations import show_calibration
    from tasks.calibration.calibrate import calibrate

    show_calibration(terminal, *calibrate(examples, base, out, false_positives=false_positives, held_out=held_out))


def _calibrate_flags() -> inspect.Signature:
    own = {
        "examples": (
            Annotated[
                str, typer.Argument(help="Parquet or CSV: prompt or image or both, and label: concepts, or safe.")
            ],
            ...,
        ),
        "out": (Annotated[Path, typer.Option(help="The new policy; the page lies beside it, as .html.")], ...),
        "false_positives": (
            Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of what is safe that each concept may stop.")],
            0.01,
        ),
        "held_out": (
            Annotated[
                float, typer.Option(min=0.1, max=0.9, help="Share of the examples that figures are of, and no choice.")
            ],
            0.5,
        ),
        "job": JOB_FILE,
    }
    return _signature({**own, **{name: _flag(GenerateJob.model_fields[name]) for name in CALIBRATING}})


_register(calibrate, _calibrate_flags())


STORE = Annotated[str, typer.Option(help="s3://bucket/prefix, or a folder.")]
IDS = Annotated[list[str], typer.Argument(help="Ids of rows, as the catalogue has them.")]
BY = Annotated[
    str | None, typer.Option(help="Who decides: the name that is written down. [default: the system's user]")
]
NOTE = Annotated[str, typer.Option(help="Why: it is written down, too.", show_default=False)]


@review.command(name="list")
def list_(
    store: STORE, json: Annotated[bool, typer.Option("--json", help="Say it as JSON, for machines.")] = False
) -> None:
    """Show what waits for a person: which concept asks, how near it is, and where the picture lies."""
    from flows.commands.reviewing import document, show_waiting
    from tasks.review.decide import waiting

    rows = waiting(store)
    if json:
        typer.echo(dumps(document(rows), indent=2, ensure_ascii=False))
    else:
        show_waiting(terminal, rows, store)


@review.command()
def approve(ids: IDS, store: STORE, by: BY = None, note: NOTE = "") -> None:
    """Publish pictures that wait, and have prompts that wait drawn by the next run."""
    _decide(ids, "approve", store, by, note)


@review.command()
def reject(ids: IDS, store: STORE, by: BY = None, note: NOTE = "") -> None:
    """Refuse pictures and prompts that wait, for good; or take an approval back."""
    _decide(ids, "reject", store, by, note)


@app.command()
def takedown(
    ids: IDS,
    store: STORE,
    until_approved: Annotated[
        bool, typer.Option("--until-approved", help="Until somebody approves it: packshot review approve.")
    ] = False,
    by: BY = None,
    note: NOTE = "",
) -> None:
    """Withdraw what is published of rows, at once: for good, or until somebody approves it."""
    from flows.commands.reviewing import show_answered, user
    from tasks.review.decide import take_down

    by = user() if by is None else by
    answered = take_down(store, ids, until_approved=until_approved, by=by, note=note)
    show_answered(terminal, answered, "hold" if until_approved else "reject")
    raise SystemExit(OK if all(one.holds for one in answered) else NOT_DECIDED)


@app.command()
def prune(
    store: STORE,
    older_than: Annotated[float, typer.Option(min=0, max=36500, help="Days that an object must have been there.")] = 30,
    status: Annotated[
        list[Retry] | None, typer.Option(help="Delete the masters of rows, too, that ended so.", show_default=False)
    ] = None,
    strike: Annotated[
        str | None, typer.Option(metavar="NAME", help="Strike the process of this name that is dead; prune nothing.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Say it as JSON, for machines.")] = False,
) -> None:
    """Delete what nothing refers to any more: masters, source pictures, runs, and publications that nobody names."""
    from flows.commands.storekeeping import prune_store, strike_from

    if strike is not None:
        strike_from(terminal, store, strike, dry_run=dry_run)
    else:
        prune_store(terminal, store, older_than=older_than, statuses=status or (), dry_run=dry_run, as_json=json)


@app.command()
def rebuild(store: STORE) -> None:
    """Write the catalogue anew from the ledgers of all runs and what people decided, where it is gone or damaged."""
    from flows.commands.storekeeping import rebuild_store

    rebuild_store(terminal, store)


def _decide(ids: list[str], answer: Literal["approve", "reject"], store: str, by: str | None, note: str) -> None:
    from flows.commands.reviewing import show_answered, user
    from tasks.review.decide import decide

    answered = decide(store, ids, answer, by=user() if by is None else by, note=note)
    show_answered(terminal, answered, answer)
    raise SystemExit(OK if all(one.holds for one in answered) else NOT_DECIDED)


@models.command()
def pull(
    model: Annotated[str, typer.Argument(help="Hub id such as Qwen/Qwen-Image, or s3:// address.")],
    to: Annotated[str, typer.Option(help="Folder, also one that machines share, or s3://bucket/prefix.")],
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id, 40 hex digits.")] = None,
) -> None:
    """Fetch a checkpoint whole, or go on with fetching it: safetensors and settings, with an inventory of hashes."""
    from flows.views.moving import Bars
    from tasks.checkpoints.pull import pull

    with Bars(problems) as bars:
        inventory = pull(model, revision, to, bars)
    terminal.print(
        f"{to} holds {inventory}: {len(inventory.files)} files, {decimal(inventory.size)}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@models.command()
def verify(
    model: Annotated[str, typer.Argument(help="Folder, s3:// address, hub id in the hub's cache, or 'miniature'.")],
    revision: Annotated[str | None, typer.Option(help="Commit of a hub id, 40 hex digits.")] = None,
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


def main() -> NoReturn:
    """Run the command."""
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        own_process()
    for name, value in {**QUIET, **prefect_settings.PATIENT}.items():
        os.environ.setdefault(name, value)
    open_output()
    ending.forget()
    threading.excepthook = _end_of_thread
    logging.raiseExceptions = False  # or each log that Prefect can't be told is told to the terminal
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            app()
        except SystemExit as ended:
            leave(ended.code)
    raise AssertionError("typer's app ends the process itself")


@contextmanager
def _home() -> Iterator[None]:
    """Give a process of a user whom the system doesn't know a home for as long as it runs: libraries need one."""
    if os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117  Path.home raises where there is none
        yield
        return
    from flows.views.moving import say
    from models.files.temporary_folder import temporary_folder

    with temporary_folder() as home:
        os.environ["HOME"] = str(home)
        os.environ.setdefault("XDG_STATE_HOME", tempfile.gettempdir())  # a traceback is to outlast the process
        say(problems, "There is no home folder, so nothing is remembered from one command to the next: set HOME.")
        yield


def _end_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Say that a thread ended of what nobody foresaw; whoever waits for what it does goes on without."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        sentence, _ = end_of(failed.exc_value, f"{_command()}, beside its work,")
        problems.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _command() -> str:
    return command_of(sys.argv[1:], [group.name for group in app.registered_groups if group.name])


def _end(error: BaseException) -> NoReturn:
    """End with a sentence and an exit code; or, where a new process is what the command needs, with one of that."""
    sentence, code = end_of(error, _command())
    if losses := lost_gpus(error):
        ending.begins_again = losses <= MOST_LOSSES
        sentence = f"{sentence.rstrip('.')}; {AGAIN if ending.begins_again else FOR_GOOD.format(losses)}"
    problems.print(sentence, style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
