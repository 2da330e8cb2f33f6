"""A hub that has a small checkpoint as acme/shop, and the miniature, which arrives in pieces, as acme/miniature."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.checkpoints.checkpoint import MINIATURE
from tests.hub_server import HubServer
from tests.small_checkpoint import small_checkpoint

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40
MODEL = MINIATURE / "qwen-image"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("source") / "shop")


@pytest.fixture
def hub(hub_server: HubServer, source: Path) -> HubServer:
    hub_server.add("acme/shop", COMMIT, source)
    hub_server.add("acme/miniature", COMMIT, MODEL)
    return hub_server
