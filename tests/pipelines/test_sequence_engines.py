"""Both engines of `sequences`: the same bytes for any buckets, rounds and runner."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from features import schema
from features.errors import ParamsError, TableError
from features.runtime.stage import Context
from features.store import tables
from pipelines import records, sample, sequences
from pipelines.sequencing import beam_engine, key_hashing, polars_engine

REVIEW: dict[str, Any] = {
    "rating": 5.0, "timestamp": 1, "user_name": "Ann", "headline": None, "text": "never read", "helpful_votes": 0,
    "source": "r", "position": 0,
}  # fmt: skip
MADE = tables.Provenance(stage="records", params={})


def context_of(root: Path, runner: str = "FnApiRunner") -> Context:
    datasets = {"format": "amazon2014", "reviews": [sample.REVIEWS], "metadata": [sample.METADATA]}
    beam = {"runner": runner, "options": []}
    return Context(dataset="sample", root=root, seed=2022, shared={"datasets": datasets, "beam": beam})


def written(context: Context, **params: Any) -> dict[str, bytes]:
    """Every file of the three tables, manifests included."""
    sequences.run(sequences.Params(**params), context)
    folder = context.table("sequences")
    assert not context.table(".sequences.work").exists()
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = context_of(tmp_path_factory.mktemp("engines"))
    sample.run(sample.Params(num_users=150, items_per_cell=2), context)
    records.run(records.Params(lines_per_block=300), context)
    return context


@pytest.mark.parametrize("numbering", ["random", "train_first"])
def test_the_sample_has_the_same_bytes_under_both_engines(made: Context, numbering: str) -> None:
    whole = written(made, numbering=numbering)
    assert len(whole) == 6
    assert written(made, numbering=numbering, rows_per_bucket=200) == whole
    assert written(made, numbering=numbering, engine="beam", rows_per_bucket=400) == whole


def reviews(root: Path, pairs: list[tuple[str, str]]) -> Context:
    """A context whose records hold these reviews and no metadata."""
    context = context_of(root)
    rows = [dict(REVIEW, user_key=u, item_key=i, line=line) for line, (u, i) in enumerate(pairs, 1)]
    for table, data in ((schema.REVIEWS, rows), (schema.ITEMS, [])):
        tables.write_table(context.table(table.name), table, tables.from_rows(table, data), MADE)
    return context


def test_beam_goes_on_until_the_core_is_a_fixpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further pipeline starts from the rows that the previous one left; the reviews are read once."""
    caplog.set_level("INFO", logger="vip5")
    batches, read = [], polars_engine.read
    monkeypatch.setattr(polars_engine, "read", lambda batch: batches.append(batch) or read(batch))
    block = [(f"u{user}", f"i{item}") for user in range(4) for item in range(4)]
    chain = [(f"c{n}", f"d{n + step}") for n in range(12) for step in (0, 1)]  # falls apart from its ends, link by link
    context = reviews(tmp_path, block + chain)
    fixed = written(context, k_core=2, engine="beam", beam_rounds=2)
    assert [batch.number for batch in batches] == [0]
    assert [record.args for record in caplog.records if "continuing" in record.msg] == [(2, 2), (4, 2), (6, 2)]
    assert fixed == written(context, k_core=2)
    users = tables.read_table(context.table("sequences/users"), schema.USERS)
    assert sorted(users["user_key"].to_pylist()) == ["u0", "u1", "u2", "u3"]


def test_an_empty_core_is_one_clear_line_under_beam_too(made: Context) -> None:
    with pytest.raises(TableError, match=r"0 of \d+ reviews in the 500-core"):
        sequences.run(sequences.Params(engine="beam", k_core=500), made)


def test_a_runner_that_does_not_count_proves_nothing(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    counters = beam_engine._counters
    monkeypatch.setattr(beam_engine, "_counters", lambda pipeline: dict.fromkeys(counters(pipeline), 0))
    with pytest.raises(TableError, match="no counters from FnApiRunner"):
        written(made, engine="beam", rows_per_bucket=400)


def test_texts_are_never_loaded(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    select = pl.LazyFrame.select

    def spy(frame: pl.LazyFrame, *exprs: Any, **named: Any) -> pl.LazyFrame:
        if "text" in frame.collect_schema().names():
            asked.extend(exprs[0])
        return select(frame, *exprs, **named)

    monkeypatch.setattr(pl.LazyFrame, "select", spy)
    written(made)
    assert set(asked) == set(key_hashing.REVIEW_COLUMNS)
    assert not {"text", "headline"} & set(asked)


def test_two_keys_of_one_hash_are_refused() -> None:
    pieces = [pl.LazyFrame({"item": [7, 8], "item_key": ["B1", "B2"]}), pl.LazyFrame({"item": [7], "item_key": ["B3"]})]
    with pytest.raises(TableError, match="3 item keys where there are 2 hashes"):
        key_hashing.resolve_keys(pieces, "item", pl.DataFrame({"item": [7, 8]}))


def test_a_runner_that_loses_rows_is_refused(made: Context) -> None:
    context = context_of(made.root, runner="DaskRunner")
    with pytest.raises(ParamsError, match="DaskRunner"):
        sequences.run(sequences.Params(engine="beam"), context)


def test_tables_travel_whole() -> None:
    from pipelines.beam.arrow_coder import TableCoder

    table = pa.table({"user": pa.array([1, 2**64 - 1], pa.uint64()), "rating": pa.array([None, 4.5], pa.float32())})
    coder = TableCoder()
    assert coder.decode(coder.encode(table)).equals(table)
    assert coder.decode(coder.encode(table[:0])).schema.equals(table.schema)


@pytest.mark.real
def test_both_engines_write_the_same_bytes_for_a_real_dump(tmp_path: Path, real_data: Path) -> None:
    names = ["reviews_Musical_Instruments_5.json.gz"], ["meta_Musical_Instruments.json.gz"]
    datasets = {"format": "amazon2014", "reviews": names[0], "metadata": names[1]}
    shared = {"datasets": datasets, "beam": {"runner": "FnApiRunner", "options": []}}
    context = Context(dataset="musical", root=tmp_path, seed=2022, shared=shared)
    context.raw.parent.mkdir(parents=True)
    context.raw.symlink_to((real_data / "amazon2014/musical_instruments").resolve())
    records.run(records.Params(), context)
    whole = written(context)
    assert written(context, engine="beam", rows_per_bucket=3000) == whole
    assert written(context, rows_per_bucket=3000) == whole
