"""A made-up dump in the 2014 format, as large as wanted: seeded, drawn a block at a time, never whole in memory.

Enters: a folder and sizes. Leaves: `reviews_Bench_5.json.gz` and `meta_Bench.json.gz`, one gzip member each.
Trade-off: texts are sentences out of a pool of a few thousand, so lines have the length of real ones (about 700 and
1,300 bytes) and inflate four times instead of three, but every byte is still drawn, quoted, escaped and parsed.

Reviews lie grouped by user, as in the 2023 release: a block of 50,000 lines holds the users of that block alone, and
four in five of its reviews are of its own stretch of the catalogue, where popularity falls like a power of the rank.
So the first lines of a dump are a small dump, with a k-core in proportion.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from features import schema
from features.runtime import stage
from features.store import tables

REVIEWS, METADATA = "reviews_Bench_5.json.gz", "meta_Bench.json.gz"
BLOCK = 50_000
_WORDS = (
    "the lid closes well and a handle feels sturdy but this one took weeks to arrive we use it every day for tea or "
    "coffee my sister bought another in blue because ours kept its shape after washing not cheap yet good value"
)
_NUM_SENTENCES = 4_096


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a dump is."""

    num_reviews: int
    num_items: int
    """Metadata lines; reviews are of these items."""
    reviews_per_user: int = 9
    sentences: int = 8
    """Of a review; eight give lines of about 700 bytes."""
    seed: int = 2022


def write_dump(folder: Path, size: Size) -> dict[str, int]:
    """Writes both files; returns the bytes of text in each."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = _sentences(np.random.default_rng(size.seed))
    return {
        REVIEWS: _write(folder / REVIEWS, size.num_reviews, lambda first, n: _reviews(size, pool, first, n)),
        METADATA: _write(folder / METADATA, size.num_items, lambda first, n: _metadata(size, pool, first, n)),
    }


def _sentences(generator: np.random.Generator) -> pl.Series:
    lengths = generator.integers(4, 18, _NUM_SENTENCES)
    texts = [" ".join(generator.choice(_WORDS.split(), length)).capitalize() + "." for length in lengths]
    return pl.Series(texts, dtype=pl.String)


def write_records(context: stage.Context, size: Size) -> None:
    """The tables that `records` would make of the dump, without texts and without the dump: for very many rows."""
    provenance = tables.Provenance(stage="records", params={}, notes={"files": {}})
    folders = {table.name: context.table(table.name) for table in (schema.REVIEWS, schema.ITEMS)}
    staging = {name: tables.begin_table(folder) for name, folder in folders.items()}
    for number, (first, count) in enumerate(blocks(size.num_reviews)):
        _, frame = drawn(size, first, count)
        rows = frame.select(
            "user_key", "item_key", rating="stars", timestamp="time", user_name=pl.format("Reader {}", "number"),
            source=pl.lit(REVIEWS), line=pl.int_range(first + 1, first + count + 1), position=pl.lit(0),
        )  # fmt: skip
        tables.write_part(staging[schema.REVIEWS.name], schema.REVIEWS, number, _declared(rows, schema.REVIEWS))
    for number, (first, count) in enumerate(blocks(size.num_items)):
        line = pl.int_range(first + 1, first + count + 1)
        rows = pl.select(item_key=pl.format("B{}", (line - 1).cast(pl.String).str.zfill(9)), line=line).select(
            "item_key", "line", title=pl.format("Kettle {}", "line"), categories=pl.concat_list(pl.lit("Kettles")),
            source=pl.lit(METADATA),
        )  # fmt: skip
        tables.write_part(staging[schema.ITEMS.name], schema.ITEMS, number, _declared(rows, schema.ITEMS))
    for table in (schema.REVIEWS, schema.ITEMS):
        tables.finish_table(folders[table.name], table, provenance)


def _declared(rows: pl.DataFrame, table: schema.Table) -> pa.Table:
    """`rows` with null where the table has more columns."""
    found = rows.to_arrow()
    for column in table.columns:
        if column.name not in found.column_names:
            found = found.append_column(column.name, pa.nulls(found.num_rows, column.type))
    return found.select(table.arrow.names).cast(table.arrow)


def drawn(size: Size, first: int, count: int) -> tuple[np.random.Generator, pl.DataFrame]:
    """Who reviewed what, when, in lines `first`, `first + 1`, ...; and the generator that draws the rest of them."""
    generator = np.random.default_rng((size.seed, 1, first))
    users_here = max(count // size.reviews_per_user, 1)
    user = first // size.reviews_per_user + (users_here * generator.random(count) ** 1.3).astype(np.int64)
    frame = pl.DataFrame({
        "number": user, "item": _items(size, generator, first, count),
        "time": generator.integers(12_000, 16_200, count) * 86_400, "votes": generator.integers(0, 4, count),
        "stars": generator.integers(1, 6, count),
    })  # fmt: skip
    keys = pl.select(
        user_key=pl.format("A{}", pl.lit(pl.Series((user * 7_368_787) % 10**10)).cast(pl.String).str.zfill(13)),
        item_key=pl.format("B{}", pl.lit(frame["item"]).cast(pl.String).str.zfill(9)),
    )
    return generator, frame.hstack(keys)


def _reviews(size: Size, pool: pl.Series, first: int, count: int) -> pl.Series:
    """Lines of the reviews, JSON with one entity and one escaped quote in a text."""
    generator, frame = drawn(size, first, count)
    frame = frame.with_columns(
        pool.gather(generator.integers(0, _NUM_SENTENCES, count)).alias("head"),
        *(pool.gather(generator.integers(0, _NUM_SENTENCES, count)).alias(f"s{n}") for n in range(size.sentences)),
    )
    text = pl.concat_str([f"s{n}" for n in range(size.sentences)], separator=" ")
    return frame.select(line=pl.format(
        '{{"reviewerID": "{}", "asin": "{}", "reviewerName": "Reader {} \\"R{}\\"", "helpful": [{}, 4], '
        '"reviewText": "{} Tea &amp; toast, \\"well done\\".", "overall": {}.0, "summary": "{}", '
        '"unixReviewTime": {}, "reviewTime": "02 28, 2014"}}',
        "user_key", "item_key", "number", "number", "votes", text, "stars", "head", "time",
    ))["line"]  # fmt: skip


def _items(size: Size, generator: np.random.Generator, first: int, count: int) -> np.ndarray:
    """Four in five of a block's reviews are of its own stretch of the catalogue, the rest of all of it."""
    begin, end = (min(place, size.num_reviews) * size.num_items // size.num_reviews for place in (first, first + BLOCK))
    local = begin + (end - begin) * generator.random(count) ** 3
    anywhere = size.num_items * generator.random(count) ** 3
    return np.where(generator.random(count) < 0.8, local, anywhere).astype(np.int64)


def _metadata(size: Size, pool: pl.Series, first: int, count: int) -> pl.Series:
    """Lines of the metadata, Python literals: both kinds of quotes, nested lists, an escaped quote."""
    generator = np.random.default_rng((size.seed, 2, first))
    related = generator.integers(0, size.num_items, (count, 52))
    frame = pl.DataFrame({
        "item": np.arange(first, first + count), "price": generator.integers(100, 9_999, count),
        "rank": generator.integers(1, 10**6, count),
        "title": pool.gather(generator.integers(0, _NUM_SENTENCES, count)),
        "about": pool.gather(generator.integers(0, _NUM_SENTENCES, count)),
        "more": pool.gather(generator.integers(0, _NUM_SENTENCES, count)),
        **{f"r{n}": related[:, n] for n in range(related.shape[1])},
    })  # fmt: skip
    others = pl.concat_str([_padded(f"r{n}", 9) for n in range(related.shape[1])], separator="', 'B")
    return frame.select(line=pl.format(
        "{{'asin': 'B{}', 'title': '{} Lid &amp; Spout', 'price': {}.99, 'brand': \"Kel'tav\", "
        "'imUrl': 'http://images.example/{}.jpg', 'related': {{'also_viewed': ['B{}'], 'bought_together': []}}, "
        "'salesRank': {{'Kitchen': {}}}, 'categories': [['Home Goods', 'Kitchen', 'Kettles']], "
        "'description': 'The \"new\" kettle\\'s spout. {} {}'}}",
        _padded("item", 9), "title", "price", "item", others, "rank", "about", "more",
    ))["line"]  # fmt: skip


def _padded(name: str, width: int) -> pl.Expr:
    return pl.col(name).cast(pl.String).str.zfill(width)


def _write(path: Path, num_lines: int, lines: Callable[[int, int], pl.Series]) -> int:
    """One gzip member of `num_lines` lines, deflated as fast as zlib can; returns the bytes of text."""
    deflate, size = zlib.compressobj(level=1, wbits=31), 0
    with path.open("wb") as stream:
        for first, count in blocks(num_lines):
            text = (lines(first, count).str.join("\n")[0] + "\n").encode()
            size += len(text)
            stream.write(deflate.compress(text))
        stream.write(deflate.flush())
    return size


def blocks(num_lines: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the blocks of a file."""
    for first in range(0, num_lines, BLOCK):
        yield first, min(BLOCK, num_lines - first)
