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

REVIEWS, METADATA = "reviews_Bench_5.json.gz", "meta_Bench.json.gz"
BLOCK = 50_000
_WORDS = (
    "the lid closes well and a handle feels sturdy but this one took weeks to arrive we use it every day for tea or "
    "coffee my sister bought another in blue because ours kept its shape after washing not cheap yet good value"
).split(" ")
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
    texts = [" ".join(generator.choice(_WORDS, length)).capitalize() + "." for length in lengths]
    return pl.Series(texts, dtype=pl.String)


def _reviews(size: Size, pool: pl.Series, first: int, count: int) -> pl.Series:
    """Lines `first`, `first + 1`, ... of the reviews, JSON with one entity and one escaped quote in a text."""
    generator = np.random.default_rng((size.seed, 1, first))
    users_here = max(count // size.reviews_per_user, 1)
    user = first // size.reviews_per_user + (users_here * generator.random(count) ** 1.3).astype(np.int64)
    item = _items(size, generator, first, count)
    seconds = generator.integers(12_000, 16_200, count) * 86_400
    frame = pl.DataFrame({
        "user": (user * 7_368_787) % 10**10, "number": user, "item": item, "time": seconds,
        "votes": generator.integers(0, 4, count), "stars": generator.integers(1, 6, count),
        "head": pool.gather(generator.integers(0, _NUM_SENTENCES, count)),
        **{f"s{n}": pool.gather(generator.integers(0, _NUM_SENTENCES, count)) for n in range(size.sentences)},
    })  # fmt: skip
    text = pl.concat_str([f"s{n}" for n in range(size.sentences)], separator=" ")
    return frame.select(line=pl.format(
        '{{"reviewerID": "A{}", "asin": "B{}", "reviewerName": "Reader {} \\"R{}\\"", "helpful": [{}, 4], '
        '"reviewText": "{} Tea &amp; toast, \\"well done\\".", "overall": {}.0, "summary": "{}", '
        '"unixReviewTime": {}, "reviewTime": "02 28, 2014"}}',
        _padded("user", 13), _padded("item", 9), "number", "number", "votes", text, "stars", "head", "time",
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
        for first, count in _blocks(num_lines):
            text = (lines(first, count).str.join("\n")[0] + "\n").encode()
            size += len(text)
            stream.write(deflate.compress(text))
        stream.write(deflate.flush())
    return size


def _blocks(num_lines: int) -> Iterator[tuple[int, int]]:
    for first in range(0, num_lines, BLOCK):
        yield first, min(BLOCK, num_lines - first)
