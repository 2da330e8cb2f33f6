import os
from pathlib import Path

import pytest

from models.kernels.triton_check import keep_built_kernels


def test_built_kernels_are_kept_in_packshots_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    monkeypatch.delenv("TRITON_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_built_kernels()
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "packshot" / "triton")
    assert (tmp_path / "packshot" / "triton").is_dir()


def test_where_the_user_says_where_they_are_kept_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_built_kernels()
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"


def test_a_cache_folder_that_cannot_be_made_leaves_tritons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    monkeypatch.delenv("TRITON_CACHE_DIR")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_built_kernels()
    assert "TRITON_CACHE_DIR" not in os.environ
