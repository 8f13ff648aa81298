"""The tiny world with all inputs of `evaluate`: sequences, candidates, explanations, and models after one step."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from features import schema
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.schema import Table
from features.store.tables import Provenance, from_rows, read_manifest, write_table
from modeling import pretrain, train
from modeling.config.training import Batching, LoopParams, Schedule, Validation
from tests.modeling.world import MADE, NUM_ITEMS, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=1, max_steps=1),
    batching=Batching(batch_size=30),
    validation=Validation(examples_per_family=0),
)
DATASET = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": [], "photos": None}


def write_evaluated(
    root: Path,
    *,
    timestamps: bool = True,
    numbering: str = "random",
    title: str = "Thing {}",
    item: str = "<item_{}>",
    backbone: Mapping[str, Any] | None = None,
) -> Context:
    """Writes all tables and trains models for one step; histories count up by one, so the number rule hits."""
    place = write_world(root, item=item)
    place = replace(place, shared=dict(place.shared) | {"datasets": DATASET})
    if backbone is not None:
        place = replace(place, shared=dict(place.shared) | {"backbone": backbone})
    rows = pq.read_table(place.table("prompts/test/sequential")).to_pylist()
    interactions, users, candidates, explanations = [], [], [], []
    for row in rows:
        user, items = row["user_id"], [*row["image_item_ids"], row["target_item_id"]]
        for position, item in enumerate(items, start=1):
            split = {len(items): "test", len(items) - 1: "valid"}.get(position, "train")
            time = 1000 + position if timestamps else None
            interactions.append({
                "user_id": user, "position": position, "item_id": item, "rating": 5.0, "timestamp": time,
                "split": split,
            })  # fmt: skip
        users.append(
            {"user_id": user, "user_key": f"U{user}", "name": None, "number": user, "num_interactions": len(items)}
        )
        listed = sorted(set(items) - {row["target_item_id"]})
        candidates.append({"user_id": user, "split": "test", "item_ids": listed})
        explanations.append({
            "user_id": user, "item_id": items[-1], "rating": 5.0, "headline": None, "feature": "colour",
            "sentence": f"the colour of number {items[-1]} is good", "split": "test",
        })  # fmt: skip
    items = [
        {
            "item_id": i, "item_key": f"B{i}", "title": title.format(i), "brand": None, "category": None,
            "num_interactions": 1, "num_train": 1,
        }
        for i in range(1, NUM_ITEMS + 1)
    ]  # fmt: skip
    noted = Provenance(stage="test", params={}, notes={"numbering": numbering})
    for table, made in (
        (schema.INTERACTIONS, interactions), (schema.USERS, users), (schema.CATALOGUE, items),
        (schema.CANDIDATES, candidates), (schema.EXPLANATIONS, explanations),
    ):  # fmt: skip
        write_table(place.table(table.name), table, from_rows(table, made), noted)
    texts = schema.text_embeddings(4)
    vectors = rng(5, "titles").standard_normal((NUM_ITEMS, 4)).round(2).tolist()
    made = [{"item_id": i, "embedding": vector} for i, vector in enumerate(vectors, 1)]
    write_table(place.table("texts"), texts, from_rows(texts, made), noted)
    pretrain.run(pretrain.Params(**vars(LOOP)), place)
    train.run(train.Params(**vars(LOOP)), place)
    return place


def rewrite(place: Context, table: Table, rows: list[dict[str, Any]]) -> None:
    """Replaces the rows of a table of the world."""
    folder = place.table(table.name)
    write_table(folder, table, from_rows(table, rows), replace(MADE, notes=read_manifest(folder)["notes"]))
