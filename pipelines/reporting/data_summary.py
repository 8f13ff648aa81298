"""Contents of the data page: counts per step, reject reasons, missing values and sample sequences.

Reads the finished tables. Returns plain values for the template.
Trade-off: lazy Polars queries that hold only counts. Distinct values are counted by 64-bit hashes, in as many passes as
keep the hashes of one pass in memory; a count may be off by one in one of a hundred pages of the largest dump.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from features import schema
from features.runtime import stage
from features.runtime.datasets import dataset
from features.runtime.params import build
from features.runtime.seeds import rng
from features.store.tables import checked_parts, read_manifest
from pipelines.reporting import common_texts
from pipelines.reporting import distributions as dist
from pipelines.sequencing import config as sequences

if TYPE_CHECKING:
    from pipelines.reporting.config import Params


Files = list[tuple[str, int, int]]
_NEWEST = 20  # interactions that are shown of a user
_ROWS_PER_PASS = 50_000_000  # some 2 GB of hashes


def frame(context: stage.Places, table: schema.Table) -> pl.LazyFrame:
    """A finished table as a lazy frame.

    Raises:
        TableError: The table is missing, half-written, stale or of another schema.
    """
    parts = checked_parts(context.table(table.name), table)
    return pl.scan_parquet(parts) if parts else pl.LazyFrame(pl.from_arrow(table.arrow.empty_table()))


def collect(params: "Params", context: stage.Context) -> dict[str, Any]:
    """Collects the contents of the data page."""
    reviews, rejects = frame(context, schema.REVIEWS), frame(context, schema.REJECTS)
    items, interactions = frame(context, schema.CATALOGUE), frame(context, schema.INTERACTIONS)
    explanations, known = frame(context, schema.EXPLANATIONS), frame(context, schema.ITEMS)
    rules = build(sequences.Params, context.shared["sequences"], where="sequences")
    dump = dataset(context.shared, context.dataset)
    read = files(reviews, known, rejects)
    per_item = interactions.group_by("item_id").len()
    return {
        "num_items": rows_of(items),
        "flow": flow(reviews, interactions, read, dump.reviews, rules),
        "matching": _matching(context),
        "catalogue": catalogue(known, items, read, dump.metadata, _statuses(context)),
        "sizes": sizes(reviews, interactions),
        "span": span(interactions),
        "files": read,
        "reasons": reasons(rejects, params.num_rejects),
        "per_user": dist.histogram(interactions.group_by("user_id").len(), "len", dist.PER_USER),
        "per_item": dist.histogram(per_item, "len", dist.PER_USER),
        "popularity": dist.concentration(per_item),
        "ratings": dist.bars(_counted(reviews, "rating").sort("rating"), "rating", by_size=False),
        "gaps": dist.gaps(interactions),
        "months": dist.months(interactions),
        "categories": dist.bars(_counted(items, "category"), "category", most=15),
        "missing": [
            ("reviews", missing(reviews, schema.REVIEWS)),
            ("metadata lines", missing(known, schema.ITEMS)),
            ("catalogue", missing(items, schema.CATALOGUE)),
        ],
        "texts": common_texts.collect(reviews, known),
        "fillers": read_manifest(context.table(schema.REVIEWS.name))["notes"].get("fillers", {}),
        "sequences": _sequences(params, context, interactions, items),
        "num_explanations": rows_of(explanations),
        "features": dist.bars(explanations.group_by("feature").len(), "feature", most=15),
        "explanations": explanations.sort("user_id", "item_id", "feature", "sentence").head(8).collect().to_dicts(),
        "identifiers": read_manifest(context.table("identifiers"))["notes"],
        "encoder": read_manifest(context.table("images/embeddings"))["notes"].get("encoder", {}),
    }


def _matching(context: stage.Context) -> list[str]:
    """How the metadata and the photos fit the items, one line each, as the stages counted it."""
    notes = [read_manifest(context.table(name))["notes"] for name in ("sequences/items", "images/embeddings")]
    return [note["matching"]["line"] for note in notes if "matching" in note]


def flow(
    reviews: pl.LazyFrame,
    interactions: pl.LazyFrame,
    read: Files,
    names: Sequence[str],
    rules: sequences.Params,
) -> dist.Bars:
    """Counts per step: lines, accepted reviews, exact duplicates, later duplicates, the k-core, splits.

    Args:
        reviews: `records/reviews`.
        interactions: `sequences/interactions`.
        read: Result of `files`.
        names: Review files.
        rules: Parameters of `sequences`.
    """
    lines, refused = _lines(read, names)
    accepted, kept = rows_of(reviews), rows_of(interactions)
    once = distinct(reviews, "user_key", "item_key", "timestamp", "position")
    steps = [
        ("lines of the review files", lines, ""),
        ("accepted reviews", accepted, f"{refused:,} lines rejected"),
        ("distinct in user, item and time", once, f"{accepted - once:,} duplicates merged"),
    ]
    left = once
    if rules.duplicate_reviews != "all":
        left = distinct(reviews, "user_key", "item_key")
        steps += [
            ("one per user and item", left, f"{once - left:,} later repeats, the {rules.duplicate_reviews} one kept")
        ]
    most = rules.max_interactions_per_user
    cut = "" if most is None else f" or before a user's newest {most:,}"
    steps += [("interactions in the sequences", kept, f"{left - kept:,} below the {rules.k_core}-core{cut}")]
    splits = dict(interactions.group_by("split").len().collect().iter_rows())
    steps += [(f"{split} split", splits.get(split, 0), "") for split in schema.SPLITS]
    return dist.shares([(name, count) for name, count, _ in steps], [note for _, _, note in steps])


def catalogue(
    known: pl.LazyFrame, items: pl.LazyFrame, read: Files, names: Sequence[str], photos: Mapping[str, int]
) -> dist.Bars:
    """Item counts per step: metadata lines, accepted lines, the catalogue, items with metadata, title and photo."""
    lines, refused = _lines(read, names)
    described = rows_of(items.select("item_key").join(known.select("item_key").unique(), on="item_key", how="semi"))
    steps = [
        ("lines of the metadata files", lines, ""),
        ("accepted lines", lines - refused, f"{refused:,} lines rejected"),
        ("items of the catalogue", rows_of(items), "bought often enough for the k-core"),
        ("with metadata", described, ""),
        ("with a title", rows_of(items.drop_nulls("title")), ""),
        ("with a photo in use", photos["ok"], f"{photos['missing']:,} missing, {photos['rejected']:,} refused"),
    ]
    return dist.shares([(name, count) for name, count, _ in steps], [note for _, _, note in steps])


def sizes(reviews: pl.LazyFrame, interactions: pl.LazyFrame) -> list[tuple[str, int, int, int]]:
    """(step, users, items, rows) for the accepted reviews, the sequences and each split."""
    rows_by_step = [("accepted reviews", *_distinct(reviews, "user_key", "item_key"))]
    rows_by_step.append(("sequences", *_distinct(interactions, "user_id", "item_id")))
    by_split = {split: interactions.filter(pl.col("split") == split) for split in schema.SPLITS}
    return [
        *rows_by_step,
        *((f"{split} split", *_distinct(rows, "user_id", "item_id")) for split, rows in by_split.items()),
    ]


def _distinct(rows: pl.LazyFrame, user: str, item: str) -> tuple[int, int, int]:
    return distinct(rows, user), distinct(rows, item), rows_of(rows)


def span(interactions: pl.LazyFrame) -> tuple[str, str] | None:
    """The first and the last day of the sequences; None without timestamps."""
    time = pl.from_epoch(pl.col("timestamp"), time_unit="s").dt.date()
    first, last = interactions.select(time.min().alias("first"), time.max().alias("last")).collect().row(0)
    return None if first is None else (first.isoformat(), last.isoformat())


def reasons(rejects: pl.LazyFrame, most: int) -> list[dict[str, Any]]:
    """Reject reasons by frequency: `name`, `count`, `width`, and `examples`, the first by file and line.

    `most` limits the total number of examples; each reason has one to three.
    """
    counts = dist.bars(_counted(rejects, "reason"), "reason", most=len(schema.REJECT_REASONS))
    each = min(3, max(1, most // max(1, len(counts))))
    first = rejects.sort("source", "line").group_by("reason", maintain_order=True).head(each).collect()
    return [row | {"examples": first.filter(pl.col("reason") == row["name"]).to_dicts()} for row in counts]


def files(reviews: pl.LazyFrame, known: pl.LazyFrame, rejects: pl.LazyFrame) -> Files:
    """(file, accepted lines, rejected lines) per file of the dump; `reviews` must be sorted by its key."""
    source, line = pl.col("source"), pl.col("line")
    begins = (source != source.shift(1)) | (line != line.shift(1))  # a line of a p5 folder has many rows
    lines = reviews.select(source, begins=begins.fill_null(value=True)).filter("begins").select("source")
    accepted = dict(pl.concat([lines, known.select("source")]).group_by("source").len().collect().iter_rows())
    refused = dict(rejects.group_by("source").len().collect().iter_rows())
    return [(name, accepted.get(name, 0), refused.get(name, 0)) for name in sorted({*accepted, *refused})]


def missing(rows: pl.LazyFrame, table: schema.Table) -> dist.Bars:
    """Number and share of rows with a null or an empty list, per column that admits them."""
    lacking = [pl.col(c.name).null_count() for c in table.columns if c.nullable]
    lacking += [(pl.col(c.name).list.len() == 0).sum() for c in table.columns if isinstance(c.type, pa.ListType)]
    counted = rows.select(pl.len().alias("all rows"), *lacking).collect().row(0, named=True)
    total = int(counted.pop("all rows"))
    return [
        {"name": name, "count": int(count), "width": dist.percent(int(count), total), "note": ""}
        for name, count in counted.items()
    ]


def _lines(read: Files, names: Sequence[str]) -> tuple[int, int]:
    """Number of lines of the files `names`, and number of rejected lines."""
    counts = [(accepted, refused) for name, accepted, refused in read if name in names]
    refused = sum(rejected for _, rejected in counts)
    return sum(accepted for accepted, _ in counts) + refused, refused


def distinct(rows: pl.LazyFrame, *columns: str, rows_per_pass: int = _ROWS_PER_PASS) -> int:
    """Number of distinct combinations of `columns`, by a 64-bit hash, in passes of about `rows_per_pass` rows.

    Example:
        Rows (1, "a"), (1, "a"), (1, None) -> 2
    """
    passes = max(-(-rows_of(rows) // rows_per_pass), 1)
    hashes = rows.select(pl.struct(*columns).hash(seed=1).alias("hash"))
    total = 0
    for number in range(passes):
        own = hashes if passes == 1 else hashes.filter(pl.col("hash") % passes == number)
        total += int(own.select(pl.col("hash").n_unique()).collect().item())
    return total


def rows_of(rows: pl.LazyFrame) -> int:
    """Number of rows."""
    return int(rows.select(pl.len()).collect().item())


def _counted(rows: pl.LazyFrame, column: str) -> pl.LazyFrame:
    return rows.drop_nulls(column).group_by(column).len()


def _statuses(context: stage.Context) -> dict[str, int]:
    """Item counts by photo status; vectors are not read."""
    folder = context.table("images/embeddings")
    parts = [folder / part for part in sorted(read_manifest(folder)["parts"])]
    counts = dict(pl.scan_parquet(parts).select("status").group_by("status").len().collect().iter_rows())
    return {status: counts.get(status, 0) for status in schema.PHOTO_STATUSES}


def _sequences(
    params: "Params", context: stage.Context, interactions: pl.LazyFrame, items: pl.LazyFrame
) -> list[tuple[int, int, list[dict[str, Any]]]]:
    """(user id, interactions, the newest of them with titles and identifiers) of users sampled by the seed."""
    users = frame(context, schema.USERS).select("user_id").collect()["user_id"].sort().to_numpy()
    generator = rng(context.seed, "data_report", "users")
    drawn = sorted(generator.choice(users, min(params.num_users, len(users)), replace=False).tolist())
    named = items.select("item_id", "title").join(frame(context, schema.IDENTIFIERS), on="item_id")
    rows = interactions.filter(pl.col("user_id").is_in(drawn)).join(named, on="item_id", how="left")
    day = pl.from_epoch(pl.col("timestamp"), time_unit="s").dt.date().cast(pl.String).alias("day")
    ordered = rows.sort("user_id", "position").with_columns(day).collect()
    by_user = [(user, ordered.filter(pl.col("user_id") == user)) for user in drawn]
    return [(user, own.height, own.tail(_NEWEST).to_dicts()) for user, own in by_user]
