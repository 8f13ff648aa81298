"""Reads the tables of a dataset for export: interactions, items and users under the dump's own keys.

Reads `sequences/interactions`, `sequences/items`, `sequences/users` and `records/items`.
"""

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from features import schema
from features.runtime.stage import Places
from features.store.tables import read_table


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The tables of one dataset. `user_id` and `item_id` are the dump's own keys."""

    name: str
    interactions: pl.DataFrame
    """user_id, item_id, position, rating, timestamp and split, by user and position."""
    items: pl.DataFrame
    """item_id, title, brand, category, categories, price and description, in the order of the item numbers."""
    users: pl.DataFrame
    """user_id, name and num_interactions, in the order of the user numbers."""

    @property
    def order(self) -> pl.Series:
        """Times that ascend with the position of each user: the timestamps, or where they do not, the positions."""
        known = self.interactions["timestamp"].null_count() == 0
        return self.interactions["timestamp" if known and self._ascend() else "position"].rename("timestamp")

    def _ascend(self) -> bool:
        step = pl.col("timestamp").diff().over("user_id")
        return not self.interactions.select((step < 0).any()).item()


def prepared(places: Places) -> Prepared:
    """The tables of `places.dataset`.

    Raises:
        TableError: A table is missing, half-written or stale.
    """
    catalogue = _read(places, schema.CATALOGUE, ["item_id", "item_key", "title", "brand", "category"])
    people = _read(places, schema.USERS, ["user_id", "user_key", "name", "num_interactions"])
    bought = _read(places, schema.INTERACTIONS, ["user_id", "item_id", "position", "rating", "timestamp", "split"])
    details = _read(places, schema.ITEMS, ["item_key", "categories", "price", "description"])
    keyed = bought.join(people.select("user_id", "user_key"), on="user_id", how="left", maintain_order="left").join(
        catalogue.select("item_id", "item_key"), on="item_id", how="left", maintain_order="left"
    )
    items = catalogue.join(
        details.unique("item_key", keep="first", maintain_order=True), on="item_key", how="left", maintain_order="left"
    )
    names = {"user_key": "user_id", "item_key": "item_id"}
    return Prepared(
        name=places.dataset,
        interactions=keyed.select(
            "user_key", "item_key", "position", "rating", "timestamp", "split"
        ).rename(names),
        items=items.drop("item_id").rename({"item_key": "item_id"}),
        users=people.drop("user_id").rename({"user_key": "user_id"}),
    )  # fmt: skip


def _read(places: Places, table: schema.Table, columns: list[str]) -> pl.DataFrame:
    rows: pa.Table = read_table(places.table(table.name), table, columns=columns)
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table, not a column
    return frame
