"""A synthetic dataset of seven tables for the tests of prompts: 12 users, 130 items, sequences of 3 to 14."""

from pathlib import Path
from typing import Any

from features import schema
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import Provenance, from_rows, write_table

NUM_USERS, NUM_ITEMS = 12, 130


def sequence_of(user_id: int) -> list[int]:
    """The distinct items of a user in time order; user 1 has 3, user 12 has 14."""
    permutation = rng(1, "made up", user_id).permutation(NUM_ITEMS)
    return [int(item) + 1 for item in permutation[: user_id + 2]]


def split_of(position: int, length: int) -> str:
    """The split of a position, from 1."""
    return {length: "test", length - 1: "valid"}.get(position, "train")


def explanation_rows() -> list[dict[str, Any]]:
    """One explanation per interaction of the users with even ids."""
    return [
        {
            "user_id": user_id, "item_id": item_id, "rating": float(position % 5 + 1),
            "headline": None if position == 1 else f"headline {position}", "feature": "sound",
            "sentence": f"the sound of {item_id} is great", "split": split_of(position, user_id + 2),
        }
        for user_id in range(2, NUM_USERS + 1, 2)
        for position, item_id in enumerate(sequence_of(user_id), start=1)
    ]  # fmt: skip


def sentence_rows() -> list[dict[str, Any]]:
    """Two sentences per train interaction of the users with even ids."""
    return [
        {
            "user_id": row["user_id"], "item_id": row["item_id"], "rating": row["rating"], "word": word,
            "sentence": f"a {word} for {row['item_id']} by {row['user_id']}",
        }
        for row in explanation_rows()
        for word in ("box", "lid")
        if row["split"] == "train"
    ]  # fmt: skip


def number_of(user_id: int) -> int:
    """The number of a user in the prompts of these tables."""
    return 100 + NUM_USERS - user_id


def write_dataset(
    root: Path, *, explanations: list[dict[str, Any]] | None = None, sentences: list[dict[str, Any]] | None = None,
    num_negatives: int = 99,
) -> Context:  # fmt: skip
    """Writes the tables that the prompts stage reads and returns the context to run it with."""
    context = Context(
        dataset="made_up", root=root, seed=7,
        shared={"beam": {"runner": "FnApiRunner", "options": []}, "num_visual_tokens": 2},
    )  # fmt: skip
    provenance = Provenance(stage="test", params={})
    users, interactions, candidates = [], [], []
    for user_id in range(1, NUM_USERS + 1):
        items = sequence_of(user_id)
        name = None if user_id == 3 else f"Name {user_id} <item_5>"
        users.append({
            "user_id": user_id, "user_key": f"KEY{user_id}", "name": name, "number": number_of(user_id),
            "num_interactions": len(items),
        })  # fmt: skip
        for position, item_id in enumerate(items, start=1):
            interactions.append({
                "user_id": user_id, "position": position, "item_id": item_id, "rating": 5.0, "timestamp": position,
                "split": split_of(position, len(items)),
            })  # fmt: skip
        unseen = [item for item in range(1, NUM_ITEMS + 1) if item not in items][:num_negatives]
        candidates += [{"user_id": user_id, "split": split, "item_ids": unseen} for split in ("valid", "test")]
    catalogue = [
        {
            "item_id": item_id, "item_key": f"B{item_id}", "title": None if item_id % 10 == 0 else f"Title {item_id}",
            "brand": None, "category": None, "num_interactions": 1, "num_train": 1,
        }
        for item_id in range(1, NUM_ITEMS + 1)
    ]  # fmt: skip
    identifiers = [{"item_id": i, "code": [i], "text": f"<item_{i}>"} for i in range(1, NUM_ITEMS + 1)]
    rows = {
        schema.USERS: users, schema.INTERACTIONS: interactions, schema.CANDIDATES: candidates,
        schema.CATALOGUE: catalogue, schema.IDENTIFIERS: identifiers,
        schema.EXPLANATIONS: explanation_rows() if explanations is None else explanations,
        schema.SENTENCES: sentence_rows() if sentences is None else sentences,
    }  # fmt: skip
    for table, values in rows.items():
        write_table(context.table(table.name), table, from_rows(table, values), provenance)
    return context
