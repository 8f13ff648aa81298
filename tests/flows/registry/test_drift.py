"""Drift: counts, population stability, photo features and verdicts."""

import json
from pathlib import Path

import numpy as np
import pytest

from features import schema
from features.store.tables import Provenance, from_rows, write_table
from flows.registry.drift import LIMITS, drift_between, judged, stability, verdict
from flows.registry.findings import drift_lines, drift_rows
from flows.registry.quality_gate import GateParams, compare
from tests.flows.registry.small_tables import NUM_USERS, write_small_tables


def test_drift_counts_who_came_and_what_moved(tmp_path: Path) -> None:
    old = write_small_tables(tmp_path / "old", better=True)
    new = write_small_tables(tmp_path / "new", better=True, shift=2, more_users=5, stars=4.0, moved=1.0)
    assert drift_between(old, old)["summary"] == {
        "verdict": "stable", "users_came": 0, "users_went": 0, "items_came": 0, "items_went": 0,
        "ratings_population_stability": 0.0, "photo_coverage_change": 0.0, "cloud_shift": 0.0, "same_items_cosine": 1.0,
    }  # fmt: skip
    report = drift_between(old, new)
    assert report["users"] == {"old": 200, "new": 205, "kept": 200, "came": 5, "went": 0}
    assert report["items"] == {"old": 4, "new": 4, "kept": 4, "came": 0, "went": 0}
    assert report["ratings"]["new"] == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert report["ratings"]["population_stability"] > 0.25
    assert report["photos"]["new"] == {"ok": 0.75, "missing": 0.25, "rejected": 0.0}
    assert report["features"]["cloud_shift"] == pytest.approx(1 / np.sqrt(2 / 3), rel=1e-3)
    assert 0.8 < report["features"]["same_items_cosine"] < 1
    assert {row["what"]: row["verdict"] for row in report["judged"]} == {
        "users": "stable", "items": "stable", "ratings": "another population", "photo states": "stable",
        "photo features": "another population", "photo features of the same items": "moved",
    }  # fmt: skip
    assert report["verdict"] == report["summary"]["verdict"] == "another population"
    assert json.loads(json.dumps(report)) == report
    lines = drift_lines(report, "abc")
    assert lines[0] == "data since champion abc: another population"
    assert lines[1].split() == ["stable", "users", "5", "came,", "0", "went,", "205", "now"]


def test_features_of_another_length_are_another_population(tmp_path: Path) -> None:
    old, new = (write_small_tables(tmp_path / name, better=True) for name in ("old", "new"))
    table = schema.embeddings(3)
    rows = [{"item_id": 1, "embedding": [1.0, 2.0, 3.0], "status": "ok"}]
    rows += [{"item_id": number, "embedding": [0.0, 0.0, 0.0], "status": "missing"} for number in (2, 3, 4)]
    write_table(new.table("images/embeddings"), table, from_rows(table, rows), Provenance(stage="x", params={}))
    report = drift_between(old, new)
    assert report["features"] == {"widths": [2, 3]}
    (row,) = [row for row in report["judged"] if row["what"] == "photo features"]
    assert row == {
        "what": "photo features", "found": "3 numbers for a photo, 2 before: another encoder", "value": None,
        "verdict": "another population",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("came", "went", "expected"), [(9, 0, "stable"), (10, 0, "moved"), (0, 25, "another population"), (0, 24, "moved")]
)
def test_users_and_items_are_judged_by_new_or_gone_shares(came: int, went: int, expected: str) -> None:
    report = {"users": {"old": 100, "new": 100, "kept": 100 - came, "came": came, "went": went}}
    assert judged(report)[0]["verdict"] == expected


@pytest.mark.parametrize("what", list(LIMITS))
def test_thresholds_belong_to_the_worse_judgement(what: str) -> None:
    moved, other = LIMITS[what]
    values = [moved - 0.001, moved, other - 0.001, other]
    assert [verdict(what, value) for value in values] == ["stable", "moved", "moved", "another population"]


def test_stability_is_zero_for_the_same_and_grows() -> None:
    assert stability([0.2, 0.8], [0.2, 0.8]) == 0
    assert 0 < stability([0.2, 0.8], [0.3, 0.7]) < stability([0.2, 0.8], [0.8, 0.2])


def test_tables_of_an_older_version_are_skipped_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = write_small_tables(tmp_path / "old", better=True)
    new = write_small_tables(tmp_path / "new", better=True)
    for table in ("images/embeddings", "predictions"):
        path = old.table(table) / "_manifest.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps(found | {"schema_digest": "0" * 16}))
    report = drift_between(old, new)
    assert "photos" not in report
    assert report["not_compared"] == ["images/embeddings"]
    assert drift_rows(report)[-1]["verdict"] == "not compared"
    assert report["users"]["kept"] == NUM_USERS
    assert compare("d", old.root, new.root, GateParams()) is None
    assert "skipping the champion's images/embeddings: schema 0000000000000000" in caplog.text
