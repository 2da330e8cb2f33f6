"""The rooms of the code: how a reader finds a module."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [file for room in ("flows", "tasks", "models", "safety") for file in (ROOT / room).rglob("*.py")]
FOLDERS = sorted({file.parent for file in MODULES})
MOST = 15  # modules side by side


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
