"""Selects the users of the model page's gallery and builds their cards.

Reads predictions, interactions, items, users, generated explanations and photos; returns cards. Users are sampled by
the seed, not by their results; up to half of them have a generated explanation.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features import schema
from features.runtime.datasets import Dataset
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import read_table
from features.vision.dataset_photos import open_photos
from modeling.reporting.html import Card, Item

_SHOWN = 10  # newest items shown of a history
Explained = Mapping[int, list[tuple[str, str, str]]]


def cards(context: Context, dataset: Dataset, *, prompt: str, num_users: int, top: int) -> list[Card]:
    """Returns the cards of `num_users` users with their `top` items under `prompt`."""
    predictions = _of_prompt(read_table(context.table("predictions"), schema.PREDICTIONS), prompt)
    explained = _explained(read_table(context.table("explanations_generated"), schema.GENERATED))
    users = _drawn(predictions, explained, num_users, context.seed)
    columns = ("user_id", "user_key", "name")
    rows = read_table(context.table("sequences/users"), schema.USERS, columns=columns).to_pylist()
    names = {row["user_id"]: row["name"] or row["user_key"] for row in rows}
    interactions = read_table(context.table("sequences/interactions"), schema.INTERACTIONS)
    items = read_table(context.table("sequences/items"), schema.CATALOGUE, columns=("item_id", "item_key", "title"))
    catalogue = {row["item_id"]: row for row in items.to_pylist()}
    store = open_photos(context.raw, dataset, [row["item_key"] for row in catalogue.values()])

    def label(item_id: int) -> str:
        return str(catalogue[item_id]["title"] or catalogue[item_id]["item_key"])

    def item(item_id: int) -> Item:
        data = store.bytes(catalogue[item_id]["item_key"]) if store else None
        return Item(label=label(item_id), photo=data)

    gallery = []
    for user in users:
        user_rows = interactions.filter(pc.equal(interactions["user_id"], user)).to_pylist()
        target = next(row["item_id"] for row in user_rows if row["split"] == "test")
        history = [row["item_id"] for row in user_rows if row["split"] != "test"][-_SHOWN:]
        ranked = predictions.filter(pc.equal(predictions["user_id"], user)).to_pylist()
        gallery.append(
            Card(
                user=f"{names[user]} (user {user})",
                history=[item(i) for i in history],
                target=item(target),
                rank=next((row["rank"] for row in ranked if row["item_id"] == target), 0),
                top=[(label(row["item_id"]), row["score"], row["item_id"] == target) for row in ranked[:top]],
                explanations=explained.get(user, []),
            )
        )
    return gallery


def _of_prompt(predictions: pa.Table, prompt: str) -> pa.Table:
    known = sorted(predictions["prompt_id"].unique().to_pylist())
    if not known:
        return predictions
    return predictions.filter(pc.equal(predictions["prompt_id"], prompt if prompt in known else known[0]))


def _explained(generated: pa.Table) -> Explained:
    explanations: dict[int, list[tuple[str, str, str]]] = {}
    for row in generated.to_pylist():
        explanations.setdefault(row["user_id"], []).append((row["prompt_id"], row["generated"], row["reference"]))
    return explanations


def _drawn(predictions: pa.Table, explained: Explained, num_users: int, seed: int) -> list[int]:
    """Samples users, in ascending order; up to half of them have a generated explanation."""
    users: npt.NDArray[np.int64] = np.unique(predictions["user_id"].to_numpy()).astype(np.int64)
    order = rng(seed, "model_report", "gallery").permutation(users)
    has_explanation = np.isin(order, list(explained))
    explained_users = order[has_explanation][: (num_users + 1) // 2]
    other_users = order[~np.isin(order, explained_users)][: num_users - len(explained_users)]
    return sorted(int(user) for user in (*explained_users, *other_users))
