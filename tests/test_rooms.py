"""The rooms of the code: how a reader finds a module."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [file for room in ("flows", "tasks", "models", "safety") for file in (ROOT / room).rglob("*.py")]
FOLDERS = sorted({file.parent for file in MODULES})
MOST = 15  # modules side by side
ATTRIBUTES = {"property", "cached_property", "loaded_once"}


def test_no_two_modules_have_one_name() -> None:
    names = Counter(file.stem for file in MODULES if file.stem != "__init__")
    assert [name for name, times in names.items() if times > 1] == []


def test_no_two_classes_have_one_name() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in MODULES]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_room_is_small_and_says_what_it_is(folder: Path) -> None:
    assert len([file for file in folder.glob("*.py") if file.stem != "__init__"]) <= MOST
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


def test_the_docstring_of_a_public_function_begins_with_what_it_does() -> None:
    of_a_noun = re.compile(
        r"(A|All|An|As|Both|Each|Every|For|From|How|In|Its|None|Of|The|Those|What|Where|Whether|Who|Why|With)\b"
    )
    found = [
        f"{file.relative_to(ROOT)}: {function.name}"
        for file in MODULES
        for function in _public_functions(ast.parse(file.read_text(encoding="utf-8")))
        if of_a_noun.match(ast.get_docstring(function) or "")
    ]
    assert found == []


def _public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """The functions and methods that a reader may call; what reads like an attribute is none."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from [node] if ATTRIBUTES.isdisjoint(map(ast.unparse, node.decorator_list)) else []
