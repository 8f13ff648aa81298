"""Every query of `examples/` on tables with known answers, without network access or caches elsewhere."""

import datetime as dt
import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from features import schema
from tests.small_line import write_small_tables

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ALONE = """\
import json, runpy, socket, sys
def refuse(*args): raise AssertionError(f"a connection to {args[1:]}")
socket.socket.connect = refuse
folder, sys.argv[1:] = sys.argv[1], []
pairs = runpy.run_path(folder + "/datasets_training_examples.py")["result"]
sys.argv[1:] = ["other"]
near = runpy.run_path(folder + "/datasets_nearest_titles.py")["result"]
print(json.dumps([dict(pairs), near]))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for dataset in ("sample", "other"):
        write_small_tables(folder, dataset)
    return folder


@pytest.fixture(autouse=True)
def small_tables(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Changes to the folder with the two small datasets."""
    monkeypatch.chdir(written)
    return written


def sql(name: str, dataset: str = "sample") -> list[tuple[Any, ...]]:
    spec = importlib.util.spec_from_file_location("run_sql", EXAMPLES / "run_sql.py")
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    rows: list[tuple[Any, ...]] = runner.found(EXAMPLES / name, dataset).fetchall()
    return rows


def python(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name))["result"]


def test_columns_say_meaning_and_unit() -> None:
    rows = {name: (meaning, unit) for name, meaning, unit in sql("columns.sql")}
    assert list(rows) == schema.REVIEWS.arrow.names
    assert rows["helpful_votes"] == ("readers who found the review helpful", "votes")
    assert rows["text"] == ("the review's text", None)


def test_best_sold_items_with_their_photos() -> None:
    assert sql("best_sold.sql") == [
        (1, "Kettle", 3, 5.0, "ok", 1.0),
        (2, "Lamp", 3, 4.0, "ok", 1.0),
        (3, "B3", 2, 1.0, "missing", 0.667),
        (4, "Guitar", 2, 3.0, "ok", 0.75),
    ]


def test_ratings_by_year() -> None:
    assert sql("ratings_by_year.sql") == [(2012, 4, 1, 0, 0, 1, 2, 3.75), (2013, 6, 1, 0, 2, 2, 1, 3.33)]


def test_history_of_the_user_who_bought_most() -> None:
    rows = sql("history_of_one_user.sql", "other")
    assert [row[4:] for row in rows] == [
        ("Kettle", 5.0, "train"), ("Lamp", 4.0, "train"), ("B3", 1.0, "valid"), ("Guitar", 3.0, "test"),
    ]  # fmt: skip
    assert rows[1][:4] == (1, "U1", 2, dt.date(2013, 1, 1))


def test_reject_reasons_with_their_first_line() -> None:
    assert sql("reject_reasons.sql") == [
        ("reviews.gz", "not_parsable", 2, 66.7, 12, "<html>"),
        ("reviews.gz", "bad_rating", 1, 33.3, 99, '{"overall": 9}'),
    ]


def test_nearest_by_photo_leaves_out_items_without_one() -> None:
    rows = sql("nearest_by_photo.sql")
    assert [(looks_like, item) for looks_like, item, *_ in rows] == [("Kettle", "Lamp"), ("Kettle", "Guitar")]
    assert [row[3] for row in rows] == pytest.approx([0.8, 0.0], abs=0.001)


def test_recommended_too_often() -> None:
    assert sql("recommended_too_often.sql") == [("A-3", 4, 1.0, 1.0)]


def test_time_between_purchases(monkeypatch: pytest.MonkeyPatch) -> None:
    row = python("polars_time_between_purchases.py", monkeypatch).row(0, named=True)
    assert (row["users"], row["median_days"], row["same_day_users"]) == (3, 1.5, 1)  # medians 2, 0 and 1.5 days


def test_prompts_of_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = python("polars_prompts_of_one_family.py", monkeypatch, "other", "sequential")
    assert frame.rows() == [("A-3", "published", 3, 6.0, 1.0, "After 1 , train user_1 ?", "4")]


def test_hit_rate_by_history_length(monkeypatch: pytest.MonkeyPatch) -> None:
    table = python("pandas_hit_rate_by_history_length.py", monkeypatch)
    assert table.loc["1-4"].tolist() == pytest.approx([3, 2 / 3, (1 + 0.6309298) / 3])
    assert table.loc["all"].tolist() == table.loc["1-4"].tolist()


def test_praised_features(monkeypatch: pytest.MonkeyPatch) -> None:
    table = python("pandas_praised_features.py", monkeypatch)
    assert table[["mean_stars", "sentences", "complaint"]].to_numpy().tolist() == [
        [3.5, 2, "lid 2"],
        [4.0, 1, "cord 4"],
    ]


def test_hugging_face_datasets_read_the_tables_offline(small_tables: Path) -> None:
    home = small_tables / "home"
    home.mkdir()
    (small_tables / "temporary").mkdir()
    settings = {"HOME": str(home), "HF_HOME": str(home / "hf"), "TMPDIR": str(small_tables / "temporary")}
    command = [sys.executable, "-W", "error::UserWarning", "-c", ALONE, str(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        '[{"source": ["After 1 , train user_3 ?", "After 1 , train user_1 ?", "After 1 , train user_2 ?"], '
        '"target": ["2", "4", "2"]}, '
        '[["Kettle", "Guitar", 0.6], ["Lamp", "Guitar", 0.8], ["Guitar", "Lamp", 0.8]]]\n'
    )
    assert [*home.rglob("*"), *(small_tables / "temporary").iterdir()] == []


def test_the_readme_lists_every_example() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".sql", ".py"}} - {"run_sql.py"}
    assert {name for name in files if f"`{name}`" not in page} == set()
    assert len(files) == 13


def test_a_query_is_run_by_its_command() -> None:
    command = [sys.executable, str(EXAMPLES / "run_sql.py"), str(EXAMPLES / "reject_reasons.sql"), "other"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "not_parsable" in done.stdout
