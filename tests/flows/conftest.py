"""Fixtures of the retrain tests: tiny workspaces with a champion, and with a better model not yet promoted."""

import shutil
from pathlib import Path

import pytest

from tests.flows import tiny


@pytest.fixture(scope="session")
def promoted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny workspace that has its first champion."""
    folder = tiny.make(tmp_path_factory.mktemp("tiny") / "first", root)
    tiny.retrain(folder, "first")
    return folder


@pytest.fixture
def folder(promoted: Path, tmp_path: Path) -> Path:
    """A copy of it, in which a test may do what it likes."""
    return Path(shutil.copytree(promoted, tmp_path / "copy"))


@pytest.fixture(scope="session")
def ready(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `promoted` in which a better model has been trained, but not promoted."""
    folder = Path(shutil.copytree(promoted, tmp_path_factory.mktemp("tiny") / "ready"))
    tiny.set_params(folder, 0.2)
    tiny.dvc(folder, "repro", "-q")
    return folder
