"""An error in the run of a profile names the command and the file of that profile."""

from pathlib import Path

import pytest

from features.errors import InputError, ModelError, ParamsError, TableError, VIP5Error
from features.runtime.remedies import NOTICE, for_dataset, for_profile


def derived(root: Path, dataset: str, names: str) -> Path:
    path = root / "work" / "profiles" / dataset / "params.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(NOTICE.format(names=names) + "dataset: toys\n")
    return path


@pytest.mark.parametrize(
    ("names", "action", "helpful"),
    [
        ("toys", "run `.venv/bin/dvc repro train`", "run `make run PROFILE=toys`"),
        ("toys + paper", "run `.venv/bin/dvc repro`", "run `make run PROFILE='toys paper'`"),
        ("toys", "`dvc repro sample`", "`make run PROFILE=toys`"),
        ("toys", "run `.venv/bin/dvc repro identifiers`, or choose another identifiers.scheme",
         "run `make run PROFILE=toys`, or choose another identifiers.scheme"),
        ("toys + paper", "change it in params.yaml", "change it in profiles/paper.yaml"),
        ("toys", "lower clip.batch_size", "lower clip.batch_size"),
    ],
)  # fmt: skip
def test_a_profile_is_named(tmp_path: Path, names: str, action: str, helpful: str) -> None:
    path = derived(tmp_path, "toys", names)
    for error in (TableError("x", "y", action), ModelError("x", "y", action)):
        found: VIP5Error = for_profile(error, path)
        assert (type(found), found.found, found.expected, found.action) == (type(error), "x", "y", helpful)
        assert for_profile(error, tmp_path / "params.yaml", "toys").action == helpful


def test_other_parameter_files_are_left_alone(tmp_path: Path) -> None:
    error = ParamsError("x", "y", "change it in params.yaml")
    assert for_profile(error, tmp_path / "params.yaml") is error
    (tmp_path / "params.yaml").write_text("dataset: sample\n")
    assert for_profile(error, tmp_path / "params.yaml") is error
    assert for_profile(error, tmp_path / "params.yaml", "toys") is error


def test_the_derived_file_is_named_by_its_profile(tmp_path: Path) -> None:
    path = derived(tmp_path, "toys", "toys")
    error = ParamsError("x", "y", f"add datasets.toys to {path}")
    assert for_profile(error, path).action == "add datasets.toys to profiles/toys.yaml"


def test_the_name_of_the_dataset_stands_in_the_remedy() -> None:
    error = InputError("no user", "columns", "set datasets.NAME.columns")
    assert for_dataset(error, "home").action == "set datasets.home.columns"
    assert for_dataset(error, None) is error
