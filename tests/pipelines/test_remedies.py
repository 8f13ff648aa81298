"""What an error says is done to the parameters, and then the stage passes."""

import json
import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import schema
from features.errors import VIP5Error
from features.runtime.stage import Context
from features.store import tables
from pipelines import candidates, records, sequences
from tests.pipelines.review_2014 import GOOD, dumped

MADE = tables.Provenance(stage="test", params={})
SETTING = re.compile(r"(sequences|candidates)\.(\w+) to (\w+)")


def written(root: Path, bought: list[tuple[int, list[int]]]) -> Context:
    """Tables of records from (user, items in time order)."""
    context = Context(
        dataset="tiny", root=root, seed=1,
        shared={"datasets": {"format": "amazon2014", "reviews": ["r"], "metadata": []}, "beam": {}},
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for user, items in bought:
        for item in items:
            line = len(rows) + 1
            row = dict.fromkeys((column.name for column in schema.REVIEWS.columns), None)
            row |= {"user_key": f"U{user}", "item_key": f"B{item}", "rating": 5.0, "timestamp": 86_400 * line}
            rows.append(row | {"source": "r", "line": line, "position": 0})
    tables.write_table(context.table("records/reviews"), schema.REVIEWS, tables.from_rows(schema.REVIEWS, rows), MADE)
    tables.write_table(context.table("records/items"), schema.ITEMS, schema.ITEMS.arrow.empty_table(), MADE)
    return context


def run(context: Context, settings: dict[str, dict[str, Any]]) -> None:
    sequences.run(sequences.Params(**settings["sequences"]), context)
    candidates.run(candidates.Params(**settings["candidates"]), context)


def followed(error: VIP5Error, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings with every value that the action of the error names."""
    named = SETTING.findall(error.action)
    assert named, error
    changed = {stage: dict(values) for stage, values in settings.items()}
    for stage, name, value in named:
        changed[stage][name] = int(value) if value.isdigit() else value
    return changed


WHEEL = [(user, [(user + step) % 9 for step in range(4)]) for user in range(9)]
FAULTS: dict[str, tuple[list[tuple[int, list[int]]], dict[str, Any], dict[str, Any], str]] = {
    "core too large": (WHEEL, {"k_core": 5}, {"num_negatives": 1}, "sequences.k_core to 4 (9 users, 9 items)"),
    "repeats merged": (
        [(user, [user, user, (user + 1) % 6] * 2) for user in range(6)], {"k_core": 5}, {"num_negatives": 1},
        "sequences.duplicate_reviews to all (6 users, 6 items)",
    ),
    "repeats, lower": (
        [(user, [user, user, (user + 1) % 6]) for user in range(6)], {"k_core": 5}, {"num_negatives": 1},
        "sequences.duplicate_reviews to all and sequences.k_core to 3 (6 users, 6 items)",
    ),
    "one user of many": (
        [(0, [1, 2, 3]), (1, [1, 2, 3, 4, 5]), (2, [3, 4, 5, 6])], {"k_core": 0}, {"num_negatives": 5},
        "candidates.num_negatives to 1",
    ),
    "19, then 18": (
        [(user, [1, 2, 3] if user < 5 else [1, 2, 3, user]) for user in range(23)], {"k_core": 0},
        {"num_negatives": 99}, "candidates.num_negatives to 17 or less",
    ),
    "every item bought": (
        [(0, [1, 2, 3, 4, 5, 6]), (1, [1, 2, 3]), (2, [2, 3, 4])], {"k_core": 0}, {"num_negatives": 4},
        "sequences.max_interactions_per_user to 5 and candidates.num_negatives to 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stage_passes_after_its_remedy(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bought, own, drawn, action = FAULTS[fault]
    monkeypatch.setattr(tables, "ROWS_PER_PART", 4)  # users of later parts count too
    context, settings = written(tmp_path, bought), {"sequences": own, "candidates": drawn}
    with pytest.raises(VIP5Error) as caught:
        run(context, settings)
    assert action in caught.value.action
    run(context, followed(caught.value, settings))


def test_without_a_remedy_the_reason_is_named(tmp_path: Path) -> None:
    context = written(tmp_path, [(user, [user, user, 1, 1]) for user in range(2, 9)])
    with pytest.raises(VIP5Error, match=r"0 of 28 reviews in the 5-core, 14 of them left after 14 repeats"):
        sequences.run(sequences.Params(duplicate_reviews="first"), context)
    context = written(tmp_path / "two", [(user, [user, 1]) for user in range(9)])
    with pytest.raises(VIP5Error, match=r"the most active user has reviews of 2 items.*use a larger dump"):
        sequences.run(sequences.Params(), context)


def test_the_largest_core_is_given(tmp_path: Path) -> None:
    context = written(tmp_path, WHEEL)
    with pytest.raises(VIP5Error) as caught:
        sequences.run(sequences.Params(k_core=900), context)
    assert caught.value.action == "set sequences.k_core to 4 (9 users, 9 items)"
    with pytest.raises(VIP5Error):
        sequences.run(sequences.Params(k_core=5), context)
    assert sequences.run(sequences.Params(k_core=4), context)
    assert pl.read_parquet(sorted(context.table("sequences/items").glob("*.parquet"))).height == 9


def test_an_inflated_dump_is_read_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = written(tmp_path, [])
    context.raw.mkdir(parents=True)
    (context.raw / "r.json.gz").write_bytes(dumped(GOOD) + b"\n")
    shared = {"datasets": {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": []}, "beam": {}}
    with caplog.at_level(logging.WARNING, "vip5"):
        assert records.run(records.Params(), replace(context, shared=shared)) == 1
    assert "r.json.gz is text, not gzip: it is read as it is" in caplog.text


@pytest.mark.parametrize("content", [b"", b"broken", pickle.dumps({"train": [7]}), pickle.dumps({"1": 7})])
@pytest.mark.parametrize("name", ["user_id2name.pkl", "exp_splits.pkl"])
def test_a_p5_folder_is_read_without_a_bad_pickle(tmp_path: Path, name: str, content: bytes) -> None:
    context = written(tmp_path, [])
    context.raw.mkdir(parents=True)
    maps = {"id2user": {"1": "U1"}, "id2item": {"1": "A", "2": "B"}}
    files = {"s.txt": b"1 1 2\n", "datamaps.json": json.dumps(maps).encode(), name: content}
    for file, data in files.items():
        (context.raw / file).write_bytes(data)
    entry: dict[str, Any] = {"format": "p5", "reviews": list(files), "metadata": []}
    with pytest.raises(VIP5Error, match=rf"do: .*remove {name} from the dataset's `reviews`"):
        records.run(records.Params(), replace(context, shared={"datasets": entry, "beam": {}}))
    entry = entry | {"reviews": ["s.txt", "datamaps.json"]}
    assert records.run(records.Params(), replace(context, shared={"datasets": entry, "beam": {}})) == 2
