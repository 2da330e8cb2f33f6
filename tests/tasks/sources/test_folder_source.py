"""A path beside the manifest is read, and nothing else on this machine."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from tasks.sources.folder_source import read_inside
from tasks.sources.source_error import SourceError

LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest's folder with a picture in it, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    inside = tmp_path / "manifest" / "pictures"
    inside.mkdir(parents=True)
    (inside / "a.png").write_bytes(b"picture")
    return tmp_path / "manifest"


def reason(folder: Path, path: str) -> str:
    with pytest.raises(SourceError) as refused:
        read_inside(folder, path, LIMIT)
    return refused.value.reason


@pytest.mark.parametrize("path", ["pictures/a.png", "./pictures/a.png"])
def test_a_path_in_the_folder_is_read(folder: Path, path: str) -> None:
    assert read_inside(folder, path, LIMIT) == b"picture"


@pytest.mark.parametrize("name", ["a b+c%20ü?#&.png", "…", "-", "..png", "a:b.png"])
def test_an_odd_name_is_only_a_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"picture")
    assert read_inside(folder, name, LIMIT) == b"picture"


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "pictures/../../secret",
        "pictures/../pictures/a.png",
        "/etc/passwd",
        "//etc/passwd",
        "./../secret",
        ".",
        "..",
        "pictures//a.png",
        "pictures\\..\\..\\secret",
        "pictures/a.png\0.jpg",
        "~/secret",
    ],
)
def test_a_path_that_is_not_plain_is_refused(folder: Path, path: str) -> None:
    assert reason(folder, path) == ("source_not_found" if path == "~/secret" else "source_not_allowed")


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "same").symlink_to("pictures")
    (folder / "same.png").symlink_to(folder / "pictures" / "a.png")
    assert read_inside(folder, "same/a.png", LIMIT) == read_inside(folder, "same.png", LIMIT) == b"picture"


def test_a_link_to_the_folder_itself_is_where_the_folder_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert read_inside(tmp_path / "link", "pictures/a.png", LIMIT) == b"picture"


@pytest.mark.parametrize(("link", "to"), [("out.png", "../secret"), ("out", "..")])
def test_a_link_that_leads_out_is_refused(folder: Path, link: str, to: str) -> None:
    (folder / link).symlink_to(to)
    assert reason(folder, link if link.endswith(".png") else f"{link}/secret") == "source_not_allowed"


def test_a_chain_of_links_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to(tmp_path / "secret")
    assert reason(folder, "one") == "source_not_allowed"


def test_a_loop_of_links_ends(folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    assert reason(folder, "one") == "source_not_allowed"


def test_a_folder_that_becomes_a_link_between_two_looks_is_not_entered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"secret")
    resolve = Path.resolve

    def exchanged_afterwards(self: Path, strict: bool = False) -> Path:
        found = resolve(self, strict=strict)
        if self.name == "a.png":
            (folder / "pictures").rename(folder / "moved")
            (folder / "pictures").symlink_to(tmp_path / "elsewhere")
        return found

    monkeypatch.setattr(Path, "resolve", exchanged_afterwards)
    assert reason(folder, "pictures/a.png") == "source_not_allowed"


def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket"))  # an absolute one may be too long for a socket
        answers: list[str] = []
        names = ["fifo", "device", "socket", "pictures"]
        thread = threading.Thread(target=lambda: answers.extend(reason(folder, name) for name in names), daemon=True)
        thread.start()
        thread.join(200)
    assert answers == 4 * ["source_not_allowed"]


def test_a_file_over_the_limit_is_not_read_whole(folder: Path) -> None:
    with (folder / "large.png").open("wb") as file:
        file.truncate(1 << 40)
    assert reason(folder, "large.png") == "source_too_large"
    (folder / "full.png").write_bytes(bytes(LIMIT))
    assert len(read_inside(folder, "full.png", LIMIT)) == LIMIT


@pytest.mark.parametrize("path", ["pictures/b.png", "nowhere/a.png", "x" * 300])
def test_a_file_that_is_not_there_is_said_to_be_missing(folder: Path, path: str) -> None:
    assert reason(folder, path) == "source_not_found"


def test_a_file_is_not_a_folder(folder: Path) -> None:
    assert reason(folder, "pictures/a.png/b.png") == "source_not_allowed"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_fails_its_row(folder: Path) -> None:
    (folder / "pictures" / "a.png").chmod(0)
    assert reason(folder, "pictures/a.png") == "source_unreachable"
