"""The wheel and the source distribution hold the miniature's files whole, also those that are links in the tree."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEIGHTS = Path("models/miniature/weights")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a distribution is built from, in which building may leave what it likes; links stay links."""
    tree = tmp_path_factory.mktemp("tree")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name in ("pyproject.toml", settings["project"]["readme"]):
        shutil.copy(ROOT / name, tree)
    for name in {package.split(".")[0] for package in settings["tool"]["setuptools"]["packages"]["find"]["include"]}:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


@pytest.fixture(scope="module")
def weights() -> dict[str, bytes]:
    """What is in the tree, by path."""
    return {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in files(ROOT / WEIGHTS)}


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_the_tree_has_links() -> None:
    assert [file for file in files(ROOT / WEIGHTS) if file.is_symlink()]


def test_a_wheel_holds_every_file_of_the_weights(tree: Path, weights: dict[str, bytes], tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(tree)], check=True)

    [wheel] = tmp_path.glob("packshot-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if name.startswith(WEIGHTS.as_posix())}
    assert found == weights


def test_a_source_distribution_holds_every_file_of_the_weights(
    tree: Path, weights: dict[str, bytes], tmp_path: Path
) -> None:
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tree, check=True, stdout=subprocess.DEVNULL)

    [archive] = tmp_path.glob("packshot-*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    assert {file.relative_to(unpacked).as_posix(): file.read_bytes() for file in files(unpacked / WEIGHTS)} == weights
