"""A newcomer: downloads or clones, types what the README says, on machines that are not the author's."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.journeys.conftest import fresh_clone, git
from tests.journeys.person import Person

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_OFFLINE": "1"}
NO_NAME = "unshare --user --map-user=54321 --map-group=54321 env -u USER -u LOGNAME -u LNAME -u USERNAME HOME=/proc"
TOOLS = ("bash", "cat", "env", "git", "grep", "make", "sed", "sort")
Demo = tuple[Path, str]


def refused(person: Person, command: str, *, within: float = 2) -> str:
    """Types a command that must end at once with one line of ours, and returns that line."""
    said = person.types(command, ends=2, within=30)
    assert said.seconds < within, f"{said.seconds:.1f} s:\n{said.text}"
    ours = [line for line in said.lines if not line.startswith("make: ")]
    assert len(ours) == 1, said.text
    assert re.match(r"setup: found .+; expected .+; do: .+", ours[0]), said.text
    return ours[0]


def programs(folder: Path, names: tuple[str, ...] = TOOLS, **scripts: str) -> str:
    """A PATH with these programs of this machine alone, and with scripts of the test."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    for name, text in scripts.items():
        path = folder / name.replace("_", ".")
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
    return str(folder)


def downloaded(demo: Demo, folder: Path) -> Path:
    """The tree of the prepared clone as an archive has it, without Git, and what DVC computed there.

    Only the data report is left to compute: the rest is taken from DVC's cache.
    """
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=git(demo[0], "archive", "HEAD"), check=True)
    shutil.copytree(demo[0] / ".dvc/cache", folder / ".dvc/cache")
    (folder / ".venv").symlink_to(sys.prefix)
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    changed = params.replace("\ndata_report: {}", "\ndata_report: {num_users: 4}", 1)
    assert changed != params
    (folder / "params.yaml").write_text(changed, encoding="utf-8")
    return folder


# --- after `make demo` ---------------------------------------------------------------------------------------------


def test_the_two_commands_that_the_demo_prints_work_as_pasted(
    demo_text: Demo, after_demo: Callable[[], Person]
) -> None:
    printed = [line.strip() for line in demo_text[1].splitlines()[-12:]]
    commands = [line for line in printed if line.startswith((".venv/bin/", "make "))]
    assert len(commands) == 2, "\n".join(printed)
    person = after_demo()
    for command in commands:
        person.types(command)


def test_git_sees_no_change_after_the_demo(after_demo: Callable[[], Person]) -> None:
    assert after_demo().types("git status --porcelain").text == ""


def test_what_the_readme_has_after_the_demo_works_as_pasted(after_demo: Callable[[], Person], tmp_path: Path) -> None:
    person = after_demo()
    users = ".venv/bin/python -c \"import polars as pl; print(*pl.read_parquet('{}/*.parquet')['{}'][:2], sep=',')\""
    user = person.types(users.format("data/sample/sequences/users", "user_key")).text.split(",")[0]
    items = person.types(users.format("data/sample/sequences/items", "item_key")).text.strip()

    asked = person.types(".venv/bin/python -m modeling.recommend --user KEY", KEY=user)
    assert len(re.findall(r"^ +\d+ ", asked.text, re.MULTILINE)) == 10, asked.text
    person.types(".venv/bin/python -m modeling.recommend --history KEY,KEY --page page.html", KEY=items)
    assert "<html" in (person.folder / "page.html").read_text(encoding="utf-8")

    assert "python -m modeling.train" not in person.types(".venv/bin/dvc repro").text
    assert "evaluate" in person.types(".venv/bin/dvc repro --dry").text
    assert "up to date" in person.types(".venv/bin/dvc status").text
    assert "metrics/sample" in person.types(".venv/bin/dvc metrics show").text
    person.types(".venv/bin/dvc plots show")
    assert (person.folder / "dvc_plots/index.html").is_file()
    person.types("rm -r work/features")
    assert "images" in person.types(".venv/bin/dvc repro images").text

    elsewhere = tmp_path / "another disk"
    person.types(".venv/bin/dvc cache dir --local FOLDER", FOLDER=f"'{elsewhere}'")
    person.types(".venv/bin/dvc config --local cache.type symlink")
    person.types(".venv/bin/dvc repro --force data_report --single-item")
    assert (person.folder / "reports/sample/data.html").resolve().is_relative_to(elsewhere)


def test_contributor_commands_work_and_clean_keeps_tracked_files(clone: Person) -> None:
    assert clone.types("make help").text.count("\n") >= 10
    clone.types("make setup")
    assert "1 passed" in clone.types(
        ".venv/bin/python -m pytest FILE", FILE="tests/flows/test_setup.py::test_the_range_of_pythons_is_stated_once"
    ).text  # fmt: skip
    clone.types(".venv/bin/python -m flows.graph --write")
    clone.types("make docs")
    clone.types("make format")
    clone.types(".venv/bin/python -m hatchling build -t wheel")
    clone.types(".venv/bin/python -m venv work/worker")
    assert clone.types("work/worker/bin/python -c 'import sys; print(sys.prefix)'").text.endswith("work/worker\n")
    clone.types("make clean")
    left = clone.types("git status --porcelain --ignored").text
    assert "M " not in left
    assert ".venv" not in left


# --- other people's machines ---------------------------------------------------------------------------------------


def test_an_archive_without_git_in_a_spaced_path_runs_the_demo(demo_text: Demo, home: Path, tmp_path: Path) -> None:
    person = Person(downloaded(demo_text, tmp_path / "my downloads (1)"), home)
    said = person.types("make demo")
    assert "python -m pipelines.data_report" in said.text
    assert said.text.count("is cached - skipping run") >= 10, said.text
    assert said.text.rstrip().splitlines()[-1] == demo_text[1].rstrip().splitlines()[-1]
    assert person.types(".venv/bin/dvc status").text.strip() == "Data and pipelines are up to date."
    person.types("git init --quiet && make setup")
    assert "no_scm" not in (person.folder / ".dvc/config.local").read_text(encoding="utf-8")


def test_a_user_id_without_a_name_or_a_home_folder_runs_the_demo(after_demo: Callable[[], Person]) -> None:
    person = after_demo()
    if person.types(f"{NO_NAME} true", ends=None).code:
        pytest.skip("this machine lets nobody take another user id (unshare --user)")
    assert "didn't change, skipping" in person.types(f"{NO_NAME} make demo").text
    said = person.types(f"{NO_NAME} .venv/bin/dvc repro --force --single-item data_report")
    assert "python -m pipelines.data_report" in said.text
    assert "Traceback" not in said.text


def test_a_linked_output_folder_is_refused_with_a_remedy(clone: Person, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (clone.folder / "data").symlink_to(disk)
    line = refused(clone, "make demo")
    assert f"found data, a link to {disk}" in line
    assert f"rm data && mkdir data && sudo mount --bind {disk} data" in line
    assert list(disk.iterdir()) == []


def test_a_bind_mounted_output_folder_works(clone: Person, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = clone.types("mkdir data && mount --bind FOLDER data", ends=None, FOLDER=str(disk))
    if mounted.code:
        pytest.skip("only root can mount")
    try:
        clone.types("make setup && .venv/bin/dvc repro records")
        assert (disk / "sample/records/reviews/_manifest.json").is_file()
    finally:
        clone.types("umount data")


def test_a_mistyped_profile_is_named_before_any_installation(clone: Person) -> None:
    (clone.folder / ".venv").unlink()
    assert "found profile 'toyz'; expected toys (the nearest known); do: make run PROFILE=toys" in refused(
        clone, "make run PROFILE=toyz"
    )
    assert "expected one of: all_users, beauty" in refused(clone, "make run PROFILE='toys qqqqqqqq'")
    assert "found no profile; expected one of: all_users, beauty" in refused(clone, "make run")
    assert not (clone.folder / ".venv").exists()


def test_a_wrong_python_is_named_and_a_fitting_one_is_used(clone: Person, tmp_path: Path) -> None:
    (clone.folder / ".venv").unlink()
    old, absent = 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi', "echo not found; exit 127"
    path = programs(tmp_path / "old", python3=old, python3_11=absent)
    person = replace(clone, more=OFFLINE | {"PATH": path})
    line = refused(person, "make demo")
    assert "found Python 3.9.2 (python3); expected Python 3.11, 3.12 or 3.13; do: install one" in line
    assert "found Python 3.9.2 (python3);" in refused(person, "make setup PYTHON=python3")
    assert "found no Python (nowhere/python);" in refused(person, "make setup PYTHON=nowhere/python")
    assert not (clone.folder / ".venv").exists()

    fitting = programs(tmp_path / "fits", python3=old, python3_11=absent, python3_13=f'exec {sys.executable} "$@"')
    said = replace(clone, more=OFFLINE | {"PATH": fitting}).types("make setup", ends=2)
    assert "setup: installing the packages of requirements.lock into .venv" in said.text
    assert "found pip install with exit code 1" in said.text
    assert "Traceback" not in said.text
    assert not (clone.folder / ".venv/.installed").exists()


def test_no_git_on_path_is_named(clone: Person, tmp_path: Path) -> None:
    tools = tuple(name for name in TOOLS if name != "git")
    person = replace(clone, more={"PATH": programs(tmp_path / "tools", tools)})
    assert "found no git on PATH" in refused(person, "make demo")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_too_little_disk_space_is_reported_with_the_need(small_disk: Path, home: Path) -> None:
    clone = fresh_clone(small_disk / "clone")
    (clone / ".venv").unlink()
    line = refused(Person(clone, home), "make demo")
    assert re.search(r"found 0\.\d GB free on the disk of .+; expected 7\.5 GB; do: free disk space", line)


def test_a_folder_that_may_not_be_written_is_named(clone: Person) -> None:
    if clone.types(f"{NO_NAME} true", ends=None).code:
        pytest.skip("this machine lets nobody take another user id (unshare --user)")
    models = clone.folder / "models"
    models.mkdir(mode=0o555)
    assert f"found {models}, which user id 54321 may not write" in refused(clone, f"{NO_NAME} make demo")


# --- what is installed ---------------------------------------------------------------------------------------------


def test_a_clone_with_a_linked_environment_installs_nothing(clone: Person) -> None:
    person = replace(clone, more=OFFLINE)
    os.utime(person.folder / "requirements.lock")
    said = person.types("make setup")
    assert "installing" not in said.text
    assert said.seconds < 2
    assert person.types("git status --porcelain").text == ""


def test_the_digest_of_the_lock_decides_on_installation(clone: Person) -> None:
    person = replace(clone, more=OFFLINE)
    stamp = (person.folder / ".venv/.installed").read_text(encoding="utf-8")
    (person.folder / ".venv").unlink()
    person.types("python3 -m venv --without-pip .venv && echo '#!/bin/sh' >.venv/bin/dvc")
    (person.folder / ".venv/.installed").write_text(stamp, encoding="utf-8")
    assert "installing" not in person.types("make setup").text
    assert "/.venv/bin/python" in person.types(".venv/bin/python -c \"import os; os.system('command -v python')\"").text

    with (person.folder / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# a new pin\n")
    said = person.types("make setup", ends=2)
    assert "setup: installing the packages of requirements.lock" in said.text
