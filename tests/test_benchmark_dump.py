"""The dump of `benchmarks.data`: both implementations read every line and find the same k-core."""

import gzip
from pathlib import Path

import polars as pl

from benchmarks import dumps, published_way
from features import schema
from features.runtime.stage import Context
from features.store import tables
from pipelines import records
from pipelines.sequencing import transforms

SIZE = dumps.Size(num_reviews=4_000, num_items=150)


def context_of(root: Path) -> Context:
    entry = {"format": "amazon2014", "reviews": [dumps.REVIEWS], "metadata": [dumps.METADATA]}
    return Context(dataset="bench", root=root, seed=1, shared={"datasets": entry, "beam": {}})


def keys(context: Context) -> pl.DataFrame:
    columns = ["user_key", "item_key", "rating", "timestamp"]
    frame = pl.from_arrow(tables.read_table(context.table("records/reviews"), schema.REVIEWS, columns=columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_both_ways_read_every_line_and_find_the_same_core(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    sizes = dumps.write_dump(context.raw, SIZE)
    assert 650 < sizes[dumps.REVIEWS] / SIZE.num_reviews < 850
    assert 1100 < sizes[dumps.METADATA] / SIZE.num_items < 1400
    records.run(records.Params(), context)
    rows = keys(context)
    assert rows.height == SIZE.num_reviews
    assert tables.read_table(context.table("records/items"), schema.ITEMS).num_rows == SIZE.num_items
    found = published_way.run(context.raw, tmp_path / "published", SIZE.num_reviews, SIZE.num_items)
    core = transforms.k_core(rows.select(user="user_key", item="item_key"), 5)
    assert found["interactions"] == core.height > 2_000
    assert (found["users"], found["items"]) == (core["user"].n_unique(), core["item"].n_unique())
    lines = (tmp_path / "published/negative_samples.txt").read_text().splitlines()
    assert {len(set(line.split()[1:])) for line in lines} == {99}


def test_the_tables_without_a_dump_are_those_of_the_dump(tmp_path: Path) -> None:
    made, bare = context_of(tmp_path / "lines"), context_of(tmp_path / "tables")
    dumps.write_dump(made.raw, SIZE)
    records.run(records.Params(), made)
    dumps.write_records(bare, SIZE)
    assert keys(made).equals(keys(bare))


def test_the_same_size_gives_the_same_dump(tmp_path: Path) -> None:
    for name in ("one", "other"):
        dumps.write_dump(tmp_path / name, SIZE)
    one, other = (gzip.decompress((tmp_path / name / dumps.REVIEWS).read_bytes()) for name in ("one", "other"))
    assert one == other
