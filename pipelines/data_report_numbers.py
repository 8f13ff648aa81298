"""What the data page says: counts, reasons, distributions, missing values and sample sequences.

Enters: the finished tables. Leaves: plain values for the template.
Trade-off: lazy Polars queries that keep counts alone, so that the largest dump needs no more memory than a small one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from features import schema, stage
from features.seeds import rng
from features.tables import read_manifest

if TYPE_CHECKING:
    from pipelines.data_report import Params

PER_USER = (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 25, 50, 100, 200)
Bars = list[dict[str, Any]]


def frame(context: stage.Context, table: schema.Table) -> pl.LazyFrame:
    """A finished table as a lazy frame.

    Raises:
        TableError: the table is absent or half-written.
    """
    folder = context.table(table.name)
    parts = sorted(read_manifest(folder)["parts"])
    if not parts:
        return pl.LazyFrame(pl.from_arrow(table.arrow.empty_table()))
    return pl.scan_parquet([folder / part for part in parts])


def collect(params: "Params", context: stage.Context) -> dict[str, Any]:
    """Everything that the data page shows."""
    reviews, rejects = frame(context, schema.REVIEWS), frame(context, schema.REJECTS)
    items, interactions = frame(context, schema.CATALOGUE), frame(context, schema.INTERACTIONS)
    explanations = frame(context, schema.EXPLANATIONS)
    known = frame(context, schema.ITEMS)
    return {
        "num_items": _rows(items),
        "flow": flow(reviews, rejects, interactions),
        "cores": cores(reviews, items, interactions),
        "files": files(reviews, known, rejects),
        "reasons": bars(rejects.group_by("reason").len(), "reason"),
        "reject_examples": _reject_examples(rejects, params.num_rejects),
        "per_user": histogram(interactions.group_by("user_id").len(), "len", PER_USER),
        "per_item": histogram(interactions.group_by("item_id").len(), "len", PER_USER),
        "ratings": bars(reviews.drop_nulls("rating").group_by("rating").len().sort("rating"), "rating", by_size=False),
        "years": bars(_years(interactions), "year", by_size=False),
        "categories": bars(items.drop_nulls("category").group_by("category").len(), "category", most=15),
        "missing": [
            ("reviews", missing(reviews, ("rating", "timestamp", "user_name", "headline", "text"))),
            ("metadata lines", missing(known, ("title", "brand", "price", "description", "image_url"))),
            ("catalogue", missing(items, ("title", "brand", "category"))),
        ],
        "photos": _statuses(context),
        "sequences": _sequences(params, context, interactions, items),
        "num_explanations": _rows(explanations),
        "features": bars(explanations.group_by("feature").len(), "feature", most=15),
        "explanations": explanations.sort("user_id", "item_id", "feature", "sentence").head(8).collect().to_dicts(),
        "identifiers": read_manifest(context.table("identifiers"))["notes"],
        "encoder": read_manifest(context.table("images/embeddings"))["notes"].get("encoder", {}),
    }


def flow(reviews: pl.LazyFrame, rejects: pl.LazyFrame, interactions: pl.LazyFrame) -> Bars:
    """Counts through the steps: lines, accepted reviews, distinct pairs of user and item, interactions, splits."""
    sources = reviews.select("source").unique().collect()["source"].to_list()
    refused = _rows(rejects.filter(pl.col("source").is_in(sources)))
    accepted = _rows(reviews)
    lines = _rows(reviews.select("source", "line").unique()) + refused
    pairs = _rows(reviews.select("user_key", "item_key").unique())
    kept = _rows(interactions)
    splits = dict(interactions.group_by("split").len().collect().iter_rows())
    steps = [
        ("lines of the review files", lines, ""),
        ("accepted reviews", accepted, f"{refused:,} lines rejected"),
        ("distinct pairs of user and item", pairs, f"{accepted - pairs:,} repeats merged"),
        ("interactions in the sequences", kept, f"{pairs - kept:,} below the k-core"),
        *((f"{split} split", splits.get(split, 0), "") for split in schema.SPLITS),
    ]
    return _shares([(name, count) for name, count, _ in steps], [note for _, _, note in steps])


def cores(reviews: pl.LazyFrame, items: pl.LazyFrame, interactions: pl.LazyFrame) -> list[tuple[str, int, int]]:
    """(what, before, after) the k-core, for users and for items."""
    before = reviews.select(pl.col("user_key").n_unique(), pl.col("item_key").n_unique()).collect().row(0)
    users = interactions.select(pl.col("user_id").n_unique()).collect().item()
    return [("users", before[0], users), ("items", before[1], _rows(items))]


def files(reviews: pl.LazyFrame, known: pl.LazyFrame, rejects: pl.LazyFrame) -> list[tuple[str, int, int]]:
    """(file, accepted lines, rejected lines) by file of the dump."""
    read = pl.concat([reviews.select("source", "line").unique(), known.select("source", "line")])
    accepted = dict(read.group_by("source").len().collect().iter_rows())
    refused = dict(rejects.group_by("source").len().collect().iter_rows())
    return [(name, accepted.get(name, 0), refused.get(name, 0)) for name in sorted({*accepted, *refused})]


def histogram(counts: pl.LazyFrame, column: str, edges: Sequence[int]) -> Bars:
    """How many values lie in each of the bins [edge, next edge), from the first bin in use to the last.

    Example:
        Values 5, 5, 9 with edges (5, 6, 8, 10) give bars "5": 2, "6-7": 0, "8-9": 1.
    """
    values = counts.select(pl.col(column).cast(pl.Int64)).group_by(column).len("times").collect()
    tallied: dict[int, int] = {}
    for value, times in values.iter_rows():
        edge = max((edge for edge in edges if edge <= value), default=edges[0])
        tallied[edge] = tallied.get(edge, 0) + times
    if not tallied:
        return []
    found = []
    for edge, following in zip(edges, (*edges[1:], None), strict=True):
        if min(tallied) <= edge <= max(tallied):
            single = following is not None and following - edge == 1
            name = str(edge) if single else f"{edge}+" if following is None else f"{edge}-{following - 1}"
            found.append((name, tallied.get(edge, 0)))
    return _shares(found)


def bars(counts: pl.LazyFrame, name: str, *, most: int = 30, by_size: bool = True) -> Bars:
    """The rows (name, len) as bars: the largest first, or in the order of the name."""
    order = ["len", name] if by_size else [name]
    rows = counts.sort(order, descending=[True, False] if by_size else [False]).head(most).collect()
    return _shares([(str(row[name]), int(row["len"])) for row in rows.iter_rows(named=True)])


def missing(rows: pl.LazyFrame, columns: Sequence[str]) -> Bars:
    """How many rows lack each of the columns, and the share of all rows."""
    nulls = rows.select(pl.len().alias("all rows"), *(pl.col(name).null_count() for name in columns)).collect()
    total = int(nulls["all rows"][0])
    return [
        {"name": name, "count": int(nulls[name][0]), "width": _percent(int(nulls[name][0]), total), "note": ""}
        for name in columns
    ]


def _rows(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())


def _percent(count: int, whole: int) -> float:
    return round(100 * count / whole, 1) if whole else 0.0


def _shares(counts: Sequence[tuple[str, int]], notes: Sequence[str] | None = None) -> Bars:
    widest = max((count for _, count in counts), default=0)
    return [
        {"name": name, "count": count, "width": _percent(count, widest), "note": note}
        for (name, count), note in zip(counts, notes or [""] * len(counts), strict=True)
    ]


def _years(interactions: pl.LazyFrame) -> pl.LazyFrame:
    when = pl.from_epoch(pl.col("timestamp"), time_unit="s").dt.year().alias("year")
    return interactions.drop_nulls("timestamp").select(when).group_by("year").len()


def _statuses(context: stage.Context) -> Bars:
    """The photo statuses in their declared order; the vectors beside them are not read."""
    folder = context.table("images/embeddings")
    parts = [folder / part for part in sorted(read_manifest(folder)["parts"])]
    counts = dict(pl.scan_parquet(parts).select("status").group_by("status").len().collect().iter_rows())
    return _shares([(status, counts.get(status, 0)) for status in schema.PHOTO_STATUSES])


def _reject_examples(rejects: pl.LazyFrame, most: int) -> list[dict[str, Any]]:
    """Up to three examples of each reason, the first ones by file and line."""
    first = rejects.sort("source", "line").group_by("reason", maintain_order=True).head(3)
    return first.sort("reason", "source", "line").head(most).collect().to_dicts()


def _sequences(
    params: "Params", context: stage.Context, interactions: pl.LazyFrame, items: pl.LazyFrame
) -> list[tuple[int, list[dict[str, Any]]]]:
    """(user number, interactions with titles and identifiers) of some users drawn by the seed."""
    users = frame(context, schema.USERS).select("user_id").collect()["user_id"].sort().to_numpy()
    generator = rng(context.seed, "data_report", "users")
    drawn = sorted(generator.choice(users, min(params.num_users, len(users)), replace=False).tolist())
    named = items.select("item_id", "title").join(frame(context, schema.IDENTIFIERS), on="item_id")
    rows = interactions.filter(pl.col("user_id").is_in(drawn)).join(named, on="item_id", how="left")
    ordered = rows.sort("user_id", "position").collect()
    return [(user, ordered.filter(pl.col("user_id") == user).to_dicts()) for user in drawn]
