"""`make setup`: supported Pythons, detection of an installation, the cache of uv."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows import setup
from flows.installing import preflight

ROOT = Path(__file__).parents[2]


def test_the_range_of_pythons_is_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest, highest = setup.PYTHONS[0], setup.PYTHONS[-1]
    assert project["requires-python"] == f">={lowest[0]}.{lowest[1]},<{highest[0]}.{highest[1] + 1}"
    assert f"{lowest} <= sys.version_info[:2] <= {highest}" in (ROOT / "flows/installing/setup.sh").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    "name",
    [
        "flows/setup",
        "flows/installing/preflight",
        "flows/installing/venv_start",
        "features/runtime/profile_names",
        "features/runtime/names",
        "features/errors",
    ],
)
def test_preinstall_modules_import_only_the_standard_library(name: str) -> None:
    text = (ROOT / f"{name}.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported - {"flows", "features"} <= sys.stdlib_module_names
    own = set(re.findall(r"^ *from ((?:flows|features)\S*)", text, re.MULTILINE))
    assert own <= {
        "flows.installing.preflight", "features.runtime.profile_names", "features.runtime.names", "features.errors"
    }  # fmt: skip


def environment(folder: Path, first: str, python: str = sys.executable) -> Path:
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(python)
    (folder / ".venv/bin/dvc").write_text(f"{first}\n", encoding="utf-8")
    (folder / "requirements.lock").write_text("one==1\n", encoding="utf-8")
    (folder / ".venv/.installed").write_text(setup.digest(folder), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("first", "python", "expected"),
    [
        ("#!/bin/sh", sys.executable, True),
        (f"#!{sys.executable}", sys.executable, True),
        ("#!/moved/away/.venv/bin/python", sys.executable, False),
        ("#!/bin/sh", "/moved/away/python3.11", False),
    ],
)
def test_an_environment_with_broken_scripts_is_not_installed(
    first: str, python: str, expected: bool, tmp_path: Path
) -> None:
    assert setup.is_installed(environment(tmp_path, first, python)) is expected


def test_line_ends_of_the_lock_do_not_count_and_its_content_does(tmp_path: Path) -> None:
    root = environment(tmp_path, "#!/bin/sh")
    (root / "requirements.lock").write_bytes(b"one==1\r\n")
    assert setup.is_installed(root)
    (root / "requirements.lock").write_bytes(b"one==2\n")
    assert not setup.is_installed(root)


def test_a_link_to_a_broken_environment_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/kept").touch()
    (tmp_path / ".venv").symlink_to(tmp_path / "other")
    with pytest.raises(preflight.Stop, match=r"found \.venv, a link to .+/other that does not work; .* do: rm \.venv"):
        setup.make(tmp_path / ".venv")
    assert (tmp_path / "other/kept").exists()


def test_an_output_folder_one_level_down_that_is_a_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sample").mkdir()
    (tmp_path / "data/toys").symlink_to("/media/disk")
    with pytest.raises(preflight.Stop, match=r"found data/toys, a link to /media/disk"):
        preflight.check_links(tmp_path)


def started(**names: str) -> str:
    """What a Python that runs `venv_start` first finds: PATH and LOGNAME."""
    start = "import os, runpy; runpy.run_path('flows/installing/venv_start.py')"
    code = f"{start}; print(os.environ['PATH'], os.environ.get('LOGNAME'))"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=names, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_venv_comes_first_on_path_once_and_logname_is_kept() -> None:
    own = os.fspath(Path(sys.prefix, "bin"))
    assert started(PATH=f"/usr/bin:{own}:/bin", LOGNAME="ada") == f"{own}:/usr/bin:/bin ada"
    assert started(PATH="/usr/bin", USER="ada") == f"{own}:/usr/bin None"
