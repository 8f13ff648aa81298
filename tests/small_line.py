"""The tables of a pipeline with three users and four items, small enough to check answers by hand."""

from pathlib import Path
from typing import Any

import numpy as np

from features import schema
from features.schema import Table
from features.store.embeddings import vector_table
from features.store.tables import Provenance, from_rows, write_table

MADE = Provenance(stage="test", params={})
DAY = 24 * 60 * 60
START = 1_356_912_000  # 31 December 2012
TITLES = {1: "Kettle", 2: "Lamp", 3: None, 4: "Guitar"}
HISTORIES = {1: [(1, 0), (2, 1), (3, 3), (4, 10)], 2: [(1, 0), (3, 0), (2, 0)], 3: [(1, 5), (4, 7), (2, 8)]}
"""(item, day) by user, in time order."""
STARS = {1: 5.0, 2: 4.0, 3: 1.0, 4: 3.0}
"""Rating of every buyer by item."""
REFUSED = ((99, "bad_rating", '{"overall": 9}'), (12, "not_parsable", "<html>"), (13, "not_parsable", "?"))
TOP = {1: [4, 3], 2: [1, 2], 3: [3, 1]}
"""Predicted items by user, best first; they do not include the item of user 3."""


def write_small_tables(root: Path, dataset: str = "sample") -> None:
    """Writes all tables that the examples read below `root`/data/<dataset>."""

    def write(table: Table, rows: list[dict[str, Any]]) -> None:
        empty = {column.name: None for column in table.columns if column.nullable}
        write_table(root / "data" / dataset / table.name, table, from_rows(table, [empty | row for row in rows]), MADE)

    bought = [(user, item, day) for user, history in HISTORIES.items() for item, day in history]
    write(schema.REVIEWS, [
        {"user_key": f"U{user}", "item_key": f"B{item}", "rating": STARS[item], "timestamp": START + day * DAY,
         "source": "reviews.gz", "line": line, "position": 0}
        for line, (user, item, day) in enumerate(bought, start=1)
    ])  # fmt: skip
    write(schema.REJECTS, [
        {"source": "reviews.gz", "line": line, "reason": reason, "excerpt": text}
        for line, reason, text in REFUSED
    ])  # fmt: skip
    write(schema.USERS, [
        {"user_id": user, "number": user, "user_key": f"U{user}", "num_interactions": len(own)}
        for user, own in HISTORIES.items()
    ])  # fmt: skip
    times = {item: sum(entry[1] == item for entry in bought) for item in TITLES}
    write(schema.CATALOGUE, [
        {"item_id": item, "item_key": f"B{item}", "title": title, "num_interactions": times[item], "num_train": 0}
        for item, title in TITLES.items()
    ])  # fmt: skip
    write(schema.INTERACTIONS, [
        {"user_id": user, "position": place, "item_id": item, "rating": STARS[item], "timestamp": START + day * DAY,
         "split": {0: "test", 1: "valid"}.get(len(own) - place, "train")}
        for user, own in HISTORIES.items() for place, (item, day) in enumerate(own, start=1)
    ])  # fmt: skip
    write(schema.EXPLANATIONS, [
        {"user_id": user, "item_id": 1, "rating": stars, "feature": feature, "sentence": f"{feature} {stars:.0f}",
         "split": "train"}
        for user, stars, feature in ((1, 5.0, "lid"), (2, 2.0, "lid"), (3, 4.0, "cord"))
    ])  # fmt: skip
    write(schema.PREDICTIONS, [
        {"user_id": user, "prompt_id": "A-3", "rank": rank, "item_id": item, "score": -float(rank)}
        for user, items in TOP.items() for rank, item in enumerate(items, start=1)
    ])  # fmt: skip
    for split in schema.SPLITS:
        rows = [
            {"example_id": user, "split": split, "family": "sequential", "prompt_id": "A-3", "variant": "published",
             "round": 0, "user_id": user, "target_item_id": own[-1][0], "image_item_ids": [own[0][0]],
             "source": f"After {own[0][0]} , {split} user_{user} ?", "target": str(own[-1][0])}
            for user, own in HISTORIES.items()
        ]  # fmt: skip
        write(schema.prompts(split, "sequential"), rows)
    _write_vectors(root / "data" / dataset)


def _write_vectors(folder: Path) -> None:
    """Writes embeddings of the photos of items 1, 2 and 4 (lamp near kettle) and of the titles (guitar near lamp)."""
    photos = schema.embeddings(2)
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 0.0], [0.0, 1.0]])
    more = {"status": ["ok", "ok", "missing", "ok"], "sha256": ["a", "b", None, "c"]}
    write_table(folder / photos.name, photos, vector_table(photos, [1, 2, 3, 4], vectors, more), MADE)
    texts = schema.text_embeddings(2)
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.6, 0.8]])
    write_table(folder / texts.name, texts, vector_table(texts, [1, 2, 3, 4], vectors, {}), MADE)
