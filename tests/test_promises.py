"""Every promise in docs/promises.md names tests, and all of them are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def functions(file: Path) -> set[str]:
    """The names of a file's test functions."""
    return {
        node.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_names_tests_that_are_there() -> None:
    promised, _, _ = TEXT.partition("## What it doesn't promise")
    promises = re.split(r"^\d+\. ", promised, flags=re.MULTILINE)[1:]
    assert len(promises) > 10
    for promise in promises:
        named = TEST.findall(promise)
        assert named, promise
        for file, function in named:
            there = functions(ROOT / file)
            assert function in there if function else there, (file, function)
