"""What all journeys share: fresh clones of this tree, and one clone in which `make demo` has run on a small sample."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.journeys.person import Person

ROOT = Path(__file__).parents[2]
SMALL = (
    "++sample.num_users=160", "++sample.items_per_cell=2", "++candidates.num_negatives=30",
    "prompts.num_candidates=10", "++pretrain.schedule.max_steps=20", "++train.schedule.max_steps=40",
    "++evaluate.sasrec.epochs=2", "++evaluate.bootstrap_resamples=200",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.journey)


def git(folder: Path, *words: str, given: bytes | None = None) -> bytes:
    return subprocess.run(["git", *words], cwd=folder, input=given, check=True, capture_output=True).stdout


def fresh_clone(folder: Path) -> Path:
    """A clone of this working tree, changes that are not committed yet included, with this run's virtual environment.

    Installing 7 GB for every journey would measure the disk: `.venv` is a link to the environment that runs the tests.
    """
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    changed = git(ROOT, "diff", "--binary", "HEAD")
    if changed:
        git(folder, "apply", "--index", given=changed)
    for name in git(ROOT, "ls-files", "--others", "--exclude-standard", "-z").decode().split("\0"):
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "add", "--all")
    commit(folder, "the working tree")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def commit(folder: Path, title: str) -> None:
    """Commits what is staged, if anything is."""
    who = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")
    git(folder, *who, "commit", "--quiet", "--allow-empty", "--message", title)


def make_small(folder: Path, values: tuple[str, ...] = SMALL) -> None:
    """Commits a smaller sample and shorter training, written into params.yaml as `dvc exp run -S` writes it."""
    from dvc.utils.hydra import apply_overrides

    apply_overrides(folder / "params.yaml", list(values))
    git(folder, "add", "--all")
    commit(folder, "a small sample")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "journeys"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def home(shared: Path) -> Path:
    """The home folder of every person: a name for Git, nothing else."""
    folder = shared / "home"
    folder.mkdir(exist_ok=True)
    (folder / ".gitconfig").write_text("[user]\n\tname = A Person\n\temail = person@example.org\n")
    return folder


@pytest.fixture
def clone(tmp_path: Path, home: Path) -> Person:
    """A person in a fresh clone in which nothing has run."""
    return Person(fresh_clone(tmp_path / "clone"), home)


@pytest.fixture(scope="session")
def demo_text(shared: Path, home: Path) -> tuple[Path, str]:
    """The clone in which `make demo` has run on the small sample, and what it printed. Not to be changed: copy it.

    Its path has a blank, as many people's have.
    """
    folder, printed = shared / "prepared clone", shared / "prepared.txt"
    with FileLock(shared / "prepared.lock"):
        if not printed.is_file():
            make_small(fresh_clone(folder))
            said = Person(folder, home).types("make demo", within=300)
            printed.write_text(said.text, encoding="utf-8")
    return folder, printed.read_text(encoding="utf-8")


@pytest.fixture
def after_demo(demo_text: tuple[Path, str], tmp_path: Path, home: Path) -> Callable[[], Person]:
    """Makes a person whose clone is a copy of the one in which `make demo` has run."""

    def copy() -> Person:
        folder = tmp_path / "demo"
        shutil.copytree(demo_text[0], folder, symlinks=True)
        return Person(folder, home)

    return copy
