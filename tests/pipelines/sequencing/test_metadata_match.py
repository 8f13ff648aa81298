"""Metadata of another dataset stops `sequences`; leaving it out, or allowing it, makes the command pass."""

import json
import logging
from pathlib import Path

import pytest

from features.errors import InputError
from features.runtime.stage import Context
from features.store.tables import read_manifest
from pipelines import records, sequences


def shop(root: Path, *, prefix: str, metadata: tuple[str, ...] = ("m.jsonl",)) -> Context:
    """Six users who bought the same six items; the metadata is that of `<prefix>0` to `<prefix>5`."""
    folder = root / "data/raw/shop"
    folder.mkdir(parents=True, exist_ok=True)
    reviews = [
        {"user_id": f"U{u}", "parent_asin": f"B{i}", "asin": f"B{i}", "rating": 5.0, "title": "", "text": "Good.",
         "timestamp": 1_600_000_000_000 + 1000 * i}
        for u in range(6) for i in range(6)
    ]  # fmt: skip
    items = [{"parent_asin": f"{prefix}{i}", "title": f"Kettle {i}", "categories": ["Home"]} for i in range(6)]
    for name, rows in (("r.jsonl", reviews), ("m.jsonl", items)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    entry = {"format": "amazon2023", "reviews": ["r.jsonl"], "metadata": list(metadata)}
    beam = {"runner": "FnApiRunner", "options": []}
    context = Context(dataset="shop", root=root, seed=1, shared={"datasets": entry, "beam": beam})
    records.run(records.Params(), context)
    return context


def test_the_match_is_logged_and_in_the_manifest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vip5")
    context = shop(tmp_path, prefix="B")
    sequences.run(sequences.Params(), context)
    line = "metadata rows: 6 of 6 used; 0 belong to no item; 0 of 6 items have none"
    assert line in [record.message for record in caplog.records]
    assert read_manifest(context.table("sequences/items"))["notes"]["matching"]["line"] == line


def test_metadata_of_another_dataset_stops_and_remedies_help(tmp_path: Path) -> None:
    context = shop(tmp_path, prefix="X")
    with pytest.raises(InputError) as caught:
        sequences.run(sequences.Params(), context)
    assert str(caught.value).startswith(
        "found metadata rows: 0 of 6 used; 6 belong to no item of the catalogue (one is X0); "
        "6 of 6 items have none (one is B0); "
    )
    assert "datasets.NAME.metadata of params.yaml, or []" in str(caught.value)
    assert not context.table("sequences/items").exists()
    assert sequences.run(sequences.Params(min_match_share=0), context) == 48
    assert sequences.run(sequences.Params(), shop(tmp_path, prefix="X", metadata=())) == 48
