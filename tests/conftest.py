"""What tests of every part share: the repository root, the real data where there is any, an empty workspace."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real dumps, or a skip that says how to name it."""
    folder = Path(os.environ.get("VIP5_REAL_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set VIP5_REAL_DATA")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, for code that works relative to the repository root."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that one worker runs it while the others do the rest."""
    items.sort(key=lambda item: item.path.name != "test_sample_claims.py")
