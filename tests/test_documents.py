"""What the documents show is there: commands and their flags, links, files, benchmarks, and targets of make."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from flows.command import command_line
from safety.pictures.profile import Profile
from safety.policy.policy import FILE_FIELDS, Policy
from tasks.job import DecomposeJob, GenerateJob
from tasks.kinds.edit.edit_job import EditJob

Command = TyperCommand | TyperGroup

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("examples/*.md")]
)
NOTES = sorted(
    file
    for pattern in ("examples/*.toml", "deploy/**/*.yaml", "deploy/Dockerfile", "safety/**/*.toml", "safety/**/*.txt")
    for file in ROOT.glob(pattern)
)
"""Files with comments that name commands."""
ROOMS = tuple(sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")))
MADE = ("out/",)
"""Where the documents' commands leave something."""
SPAN = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BENCHMARK = re.compile(r"\bbenchmarks\.(\w+)((?: +[\w./-]+)*)")
SETTING = re.compile(r"^(\w+) = ")
TARGET = re.compile(r"\bmake ([a-z]+)\b")
MOST_LINES = 180
"""Of the README: a newcomer reads it in one sitting."""


@dataclass(frozen=True)
class Page:
    """A document: what it says, the code that it shows in blocks, and what it has in backticks."""

    file: Path
    prose: str
    code: str

    @classmethod
    def read(cls, file: Path) -> Page:
        """Tell a document's blocks of code, which are fenced, or indented after an empty line, from the rest."""
        prose, code, fenced, may_begin = [], [], False, True
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith("```"):
                fenced = not fenced
                continue
            is_code = fenced or (may_begin and line.startswith("    "))
            may_begin = is_code or not line.strip()
            (code if is_code else prose).append(line)
        return cls(file, "\n".join(prose), "\n".join(code))

    @property
    def spans(self) -> list[str]:
        """What is in backticks, each on one line."""
        return [" ".join(span.split()) for span in SPAN.findall(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """The names that a link may end in, as GitHub makes them of headings."""
        anchors: set[str] = set()
        for heading in HEADING.findall(self.prose):
            plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            anchors.add(next(name for n in count() if (name := f"{plain}-{n}" if n else plain) not in anchors))
        return anchors


def commands(code: str) -> Iterator[list[str]]:
    """The words after `packshot` of each command in a block; a comment ends it, and a backslash continues its line."""
    for line in re.sub(r"\\\n\s*", " ", code).splitlines():
        if line.strip().startswith("packshot "):
            yield shlex.split(line, comments=True)[1:]


def command_of(words: list[str]) -> tuple[Command, list[str], str]:
    """The command that words name, what is left of them, and its whole name.

    Raises:
        TyperException: if there is no such command.
    """
    command, name, left = typer.main.get_command(command_line()), "packshot", list(words)
    while isinstance(command, TyperGroup) and left and not left[0].startswith("-"):
        _, inner, left = command.resolve_command(command.context_class(command, info_name=name), left)
        assert inner is not None
        command, name = inner, f"{name} {inner.name}"
    return command, left, name


def parse(words: list[str]) -> None:
    """Parse a whole command, without running it.

    Raises:
        TyperException: if it would be refused.
    """
    command, left, name = command_of(words)
    command.make_context(name, left)


def unknown_flags(words: list[str]) -> list[str]:
    """The flags that a command lacks which is named in a sentence, where its arguments may be left out.

    Raises:
        TyperException: if there is no such command.
    """
    command, left, _ = command_of(words)
    flags = [word.partition("=")[0] for word in left if word.startswith("--")]
    return [flag for flag in flags if flag not in {*flags_of(command), "--help"}]


def flags_of(command: Command) -> set[str]:
    """All flags of a command and of those below it."""
    below = command.commands.values() if isinstance(command, TyperGroup) else ()
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(flags_of, below))


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return [Page.read(file) for file in PAGES]


def test_every_command_in_a_block_is_one_that_packshot_takes(pages: list[Page]) -> None:
    shown = [(page.file.name, words) for page in pages for words in commands(page.code)]
    assert len(shown) > 20
    for file, words in shown:
        try:
            parse(words)
        except TyperException as error:
            pytest.fail(f"{file}: packshot {shlex.join(words)}: {error}")


def test_every_command_that_a_sentence_names_is_there_with_its_flags(pages: list[Page]) -> None:
    named = [(page.file.name, span) for page in pages for span in page.spans]
    named += [(file.name, span) for file in NOTES for span in SPAN.findall(file.read_text(encoding="utf-8"))]
    named = [(file, span) for file, span in named if span.startswith("packshot ")]
    assert len(named) > 20
    for file, span in named:
        try:
            assert unknown_flags(shlex.split(span)[1:]) == [], (file, span)
        except TyperException as error:
            pytest.fail(f"{file}: {span}: {error}")


@pytest.mark.parametrize(
    "line",
    [
        "packshot paint manifest.parquet",
        "packshot review forget sku-1 --store out/shop",
        "packshot generate manifest.parquet --store out/shop --stpes 8",
        "packshot generate manifest.parquet --store out/shop --steps many",
        "packshot generate --store out/shop \\\n    --steps 8",
    ],
)
def test_a_command_that_packshot_refuses_is_noticed(line: str) -> None:
    [words] = commands(f"    {line}    # and says why")
    with pytest.raises(TyperException):
        parse(words)


def test_every_flag_in_backticks_is_one_of_some_command(pages: list[Page]) -> None:
    known = flags_of(typer.main.get_command(command_line())) | set(benchmark_flags())
    for page in pages:
        for span in page.spans:
            if span.startswith("--"):
                assert span.split()[0] in known, (page.file.name, span)


def benchmark_flags() -> Iterator[str]:
    """The flags of all benchmarks."""
    for file in ROOT.glob("benchmarks/*.py"):
        yield from re.findall(r'add_argument\("(--[\w-]+)"', file.read_text(encoding="utf-8"))


def test_every_setting_in_backticks_is_one_of_a_job_a_policy_or_a_profile(pages: list[Page]) -> None:
    known = (
        fields_of(GenerateJob)
        | fields_of(DecomposeJob)
        | fields_of(EditJob)
        | fields_of(Profile)
        | fields_of(Policy)
        | {*FILE_FIELDS}
    )
    named = [(page.file.name, *found) for page in pages for span in page.spans if (found := SETTING.findall(span))]
    assert len(named) > 10
    for page, setting in named:
        assert setting in known, (page, setting)


def fields_of(model: type[BaseModel]) -> set[str]:
    """The names of a model's fields, and of those of models that its fields hold."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        kinds = [field.annotation, *get_args(field.annotation)]
        names.update(*(fields_of(kind) for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)))
    return names


def test_every_link_leads_to_a_file_of_the_tree_and_to_a_heading_of_it(pages: list[Page]) -> None:
    links = [(page, link) for page in pages for link in LINK.findall(SPAN.sub("``", page.prose))]
    assert len(links) > 40
    for page, link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.file.parent / path).resolve() if path else page.file
        assert target.exists(), (page.file.name, link)
        assert target.is_relative_to(ROOT), (page.file.name, link)
        if anchor:
            assert anchor in Page.read(target).anchors, (page.file.name, link)


def test_every_file_of_the_project_that_is_named_is_there(pages: list[Page]) -> None:
    named = [(page.file.name, span) for page in pages for span in page.spans]
    named += [(page.file.name, word) for page in pages for word in page.code.split()]
    files = 0
    for page, span in named:
        path = span.partition("::")[0].removesuffix(",")
        in_the_tree = path.startswith(tuple(f"{room}/" for room in ROOMS)) and not path.startswith(MADE)
        if not (in_the_tree or path.endswith(".py")) or re.search(r"[A-Z]{4,}|…| ", path):
            continue  # NAME and … stand for what a reader fills in
        assert (ROOT / path).exists(), (page, span)
        files += 1
    assert files > 40


def test_every_benchmark_that_is_named_is_a_module_with_these_flags(pages: list[Page]) -> None:
    named = [(page.file.name, *found) for page in pages for found in BENCHMARK.findall(page.prose + page.code)]
    assert len(named) > 20
    for page, module, words in named:
        spec = importlib.util.find_spec(f"benchmarks.{module}")
        assert spec is not None, (page, module)
        assert spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        for flag in re.findall(r"--[\w-]+", words):
            assert f'"{flag}"' in source, (page, module, flag)


def test_every_target_of_make_that_is_named_is_there(pages: list[Page]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in pages for text in [*page.spans, page.code] for name in TARGET.findall(text)}
    assert {"demo", "test", "quick"} <= named <= targets


def test_the_readme_is_short_and_leads_to_every_page(pages: list[Page]) -> None:
    [readme] = [page for page in pages if page.file == ROOT / "README.md"]
    assert len(readme.file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(readme.prose)}
    assert [page.file.name for page in pages if page.file not in {*linked, readme.file}] == []
