import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from features.errors import InputError, ParamsError
from features.runtime import stage
from features.runtime.stage import Context, Places

PARAMS = """\
dataset: toys
seed: 7
datasets: {toys: {format: p5}, beauty: {format: p5}}
beam: {runner: FnApiRunner}
records: {k_core: 5}
"""


@dataclass(frozen=True, kw_only=True)
class Params:
    k_core: int


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    return path


def test_places_are_named_by_dataset() -> None:
    places = Places(dataset="toys")
    assert places.raw.as_posix() == "data/raw/toys"
    assert places.table("sequences/users").as_posix() == "data/toys/sequences/users"
    assert places.model("train").as_posix() == "models/toys/train"
    assert places.metrics("evaluate.json").as_posix() == "metrics/toys/evaluate.json"
    assert places.plots("train.csv").as_posix() == "plots/toys/train.csv"
    assert places.report("data.html").as_posix() == "reports/toys/data.html"
    assert places.checkpoints("ab").as_posix() == "work/checkpoints/ab"


def test_a_stage_sees_its_own_section_and_what_it_declared_only(params: Path) -> None:
    own, context = stage.load(params, "records", Params, ("datasets",))
    assert own == Params(k_core=5)
    assert (context.dataset, context.seed) == ("toys", 7)
    assert dict(context.shared) == {"datasets": {"format": "p5"}}


def test_an_unknown_dataset_is_answered_with_the_nearest(params: Path) -> None:
    params.write_text(PARAMS.replace("dataset: toys", "dataset: toy"))
    with pytest.raises(ParamsError) as caught:
        stage.load(params, "records", Params, ("datasets",))
    assert caught.value.found == "dataset 'toy'"
    assert caught.value.expected == "toys (the nearest known)"


def test_a_missing_section_is_named(params: Path) -> None:
    with pytest.raises(ParamsError, match="found no section sequences"):
        stage.load(params, "sequences", Params, ())


def test_success_is_zero_and_one_line_with_rows_and_seconds(params: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(_params: Params, _context: Context) -> int:
        """Counts."""
        return 1234

    with caplog.at_level(logging.INFO, logger="vip5"):
        assert stage.main("records", Params, (), run, ["--params", str(params)]) == 0
    assert caplog.messages[0].startswith("records: 1,234 rows in 0.0 s, peak memory ")


def test_the_line_of_a_stage_is_seen_by_default(root: Path) -> None:
    code = (
        "import logging; from features.runtime import stage; stage.configure_logging(); "
        "logging.getLogger('vip5').info('seen')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stderr == "seen\n"


def test_a_user_error_is_one_line_and_its_exit_code(params: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(_params: Params, _context: Context) -> int:
        """Fails."""
        raise InputError("nothing", "a dump", "bring one")

    assert stage.main("records", Params, (), run, ["--params", str(params)]) == 3
    assert caplog.messages == ["records: found nothing; expected a dump; do: bring one"]
    assert caplog.records[0].exc_info is None


def test_a_programming_error_keeps_its_traceback(params: Path) -> None:
    def run(_params: Params, _context: Context) -> int:
        """Breaks."""
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage.main("records", Params, (), run, ["--params", str(params)])


def test_help_is_the_first_line_of_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_params: Params, _context: Context) -> int:
        """Turn dump lines into records.

        And more.
        """
        return 0

    with pytest.raises(SystemExit) as caught:
        stage.main("records", Params, (), run, ["--help"])
    assert caught.value.code == 0
    assert "Turn dump lines into records." in capsys.readouterr().out


def test_what_libraries_say_needlessly_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    stage.configure_logging()
    for message in (
        "apitools not found, and bigquery client libraries are not available",
        "No pretrained weights loaded for model 'x'. Model initialized randomly.",
        "the disk is full",
    ):
        logging.getLogger().warning(message)
    assert caplog.messages == ["the disk is full"]


@pytest.mark.parametrize("seed", [1.9, True, "7", -1, 1 << 63, None])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(ParamsError, match=r"seed = .*; expected a whole number from 0 to 2\^63 - 1"):
        stage.checked_seed(seed)
    assert stage.checked_seed(0) == 0
