"""Tests that are new, rewritten once as pytest does, for all processes that run them side by side.

Each would else rewrite nearly all of them, for three seconds of the processor, since all begin at the same moment.
"""

from __future__ import annotations

import sys

import pytest
from _pytest.assertion.rewrite import (  # pytest 9.2 has no door to it
    PYC_TAIL,
    _read_pyc,
    _rewrite_test,
    _write_pyc,
    assertstate_key,
    get_cache_dir,
    try_makedirs,
)

from tests.forked import ROOT


@pytest.hookimpl(trylast=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Rewrite them while the process that the others are forked from imports: see `workers`."""
    tests = ROOT / "tests"
    for file in [*tests.rglob("conftest.py"), *tests.rglob("test_*.py")]:
        kept = (folder := get_cache_dir(file)) / f"{file.stem}{PYC_TAIL}"
        if sys.dont_write_bytecode or not try_makedirs(folder):
            return
        if _read_pyc(file, kept) is None:
            digest, code = _rewrite_test(file, config)
            _write_pyc(config.stash[assertstate_key], code, digest, kept)
