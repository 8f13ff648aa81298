"""Fixtures of all tests: the repository root, real data if available, an empty workspace."""

import os
from pathlib import Path

import pytest

from tests.type_checks import check_annotations

ROOT = Path(__file__).parents[1]
check_annotations()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Returns the folder of real dumps, or skips the test."""
    folder = Path(os.environ.get("VIP5_REAL_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set VIP5_REAL_DATA")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to an empty folder, for code that uses paths relative to the repository root."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the longest file first, so that one worker runs it while the others run the rest."""
    items.sort(key=lambda item: item.path.name != "test_sample_claims.py")
