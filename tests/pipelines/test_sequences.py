import itertools
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import schema
from features.errors import TableError
from features.runtime.stage import Context
from features.store import tables
from modeling.data.user_histories import known_before_test
from modeling.evaluation.user_id_leakage import neighbour_ranks
from pipelines import records, sample, sequences
from pipelines.sequencing import id_assignment, key_hashing, polars_engine, transforms
from pipelines.sequencing.config import LEAST_INTERACTIONS
from pipelines.sequencing.frame_store import Pieces
from pipelines.sequencing.transforms import core_masks

SEED = 2022
REVIEW_TYPES: dict[str, Any] = {
    "user_key": pl.String, "item_key": pl.String, "rating": pl.Float32, "timestamp": pl.Int64, "user_name": pl.String,
    "source": pl.String, "line": pl.Int64, "position": pl.Int32,
}  # fmt: skip
ITEM_TYPES: dict[str, Any] = {
    "item_key": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
}
PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 20)), max_size=80)


def reviews_of(triples: list[tuple[object, object, int]], name: str | None = None) -> pl.DataFrame:
    """Rows of records/reviews from (user, item, time)."""
    rows = [(f"U{u}", f"B{i}", 5.0, t, name, "r", n, 0) for n, (u, i, t) in enumerate(triples, 1)]
    return pl.DataFrame(rows, schema=REVIEW_TYPES, orient="row")


def frame_of(triples: list[tuple[int, int, int]]) -> pl.DataFrame:
    reviews = reviews_of(list(triples)).select(key_hashing.REVIEW_COLUMNS)
    return key_hashing.hash_keys(reviews, 0, key_hashing.salt(SEED)).interactions


def built(
    reviews: pl.DataFrame,
    params: sequences.Params,
    *,
    in_file_order: bool = False,
    seed: int = SEED,
    metadata: pl.DataFrame | None = None,
    num_buckets: int = 1,
    rows_per_batch: int = 1000,
    rows_per_part: int = 1000,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(users, items, interactions), all in memory."""
    rules, pieces = polars_engine.Rules(params=params, seed=seed), Pieces()
    for number, first in enumerate(range(0, max(reviews.height, 1), rows_per_batch)):
        batch = polars_engine.Batch(number=number, first_row=first, paths=())
        rows = reviews[first : first + rows_per_batch].select(key_hashing.REVIEW_COLUMNS)
        polars_engine.write_hashed(rules, batch, rows, num_buckets, pieces)
    polars_engine.write_cores(rules, num_buckets, pieces)
    users = id_assignment.users(pieces, params, seed, in_file_order=in_file_order, rows_per_part=rows_per_part)
    items = id_assignment.items(pieces, users, params.numbering, seed)
    described = pl.DataFrame(schema=ITEM_TYPES) if metadata is None else metadata
    parts = [rows for _, rows in id_assignment.parts(pieces, users, items)]
    return (
        users.drop("user", "part"),
        id_assignment.with_metadata(items, described.lazy()),
        pl.concat(parts) if parts else pl.DataFrame(),
    )


def number_rule(interactions: pl.DataFrame) -> float:
    """Share of users whose test item is the largest number of their history plus one."""
    history = interactions.filter(pl.col("split") != "test").group_by("user_id").agg(guess=pl.col("item_id").max() + 1)
    test = interactions.filter(pl.col("split") == "test").join(history, on="user_id")
    return float((test["guess"] == test["item_id"]).mean())  # type: ignore[arg-type]


@given(PAIRS, st.integers(0, 4))
@settings(max_examples=120, deadline=None)
def test_the_k_core_is_a_fixpoint_and_the_largest_one(triples: list[tuple[int, int, int]], k: int) -> None:
    frame = frame_of(triples)
    core = transforms.k_core(frame, k)
    for side in ("user", "item"):
        assert core.group_by(side).len().filter(pl.col("len") < k).height == 0
    assert transforms.k_core(core, k).equals(core)
    rows = set(frame.rows())
    while True:
        short = {
            (place, key)
            for place in (0, 1)
            for key in {row[place] for row in rows}
            if sum(row[place] == key for row in rows) < k
        }
        rows_left = {row for row in rows if (0, row[0]) not in short and (1, row[1]) not in short}
        if rows_left == rows:
            break
        rows = rows_left
    assert set(core.rows()) == rows


@given(PAIRS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_k_core_does_not_depend_on_the_order_of_the_rows(triples: list[tuple[int, int, int]], random: Any) -> None:
    frame = frame_of(triples)
    order = list(range(frame.height))
    random.shuffle(order)
    assert transforms.k_core(frame[order], 2).sort("row").equals(transforms.k_core(frame, 2))


@given(PAIRS, st.sampled_from(["random", "train_first", "p5"]), st.integers(1, 5), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_buckets_batches_and_parts_change_no_row(
    triples: list[tuple[int, int, int]], numbering: transforms.Numbering, num_buckets: int, rows: int
) -> None:
    params, reviews = sequences.Params(k_core=2, numbering=numbering), reviews_of(list(triples), "Ann")
    cut = built(reviews, params, num_buckets=num_buckets, rows_per_batch=rows, rows_per_part=rows)
    for whole, part in zip(built(reviews, params), cut, strict=True):
        assert whole.equals(part)


@given(st.lists(PAIRS, min_size=1, max_size=4), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_the_k_core_of_buckets_of_users_is_that_of_all(buckets: list[list[tuple[int, int, int]]], k: int) -> None:
    frames = [frame_of([(user + 10 * n, item, time) for user, item, time in rows]) for n, rows in enumerate(buckets)]
    whole = pl.concat(frames)
    dense = whole.select(pl.col("user", "item").rank("dense").cast(pl.Int64) - 1)
    bounds = np.cumsum([0, *(frame.height for frame in frames)])
    cut = [dense[int(first) : int(last)] for first, last in itertools.pairwise(bounds)]
    masks = core_masks(
        lambda bucket: (cut[bucket]["user"].to_numpy(), cut[bucket]["item"].to_numpy()), len(cut), whole.height + 1, k
    )
    kept = pl.concat([frame.filter(pl.Series(mask)) for frame, mask in zip(frames, masks, strict=True)])
    assert kept.equals(transforms.k_core(whole, k))


@given(PAIRS, st.sampled_from(["random", "train_first", "p5"]), st.sampled_from(["first", "last", "all"]))
@settings(max_examples=100, deadline=None)
def test_the_split_is_a_partition_by_place_in_time(
    triples: list[tuple[int, int, int]], numbering: transforms.Numbering, duplicate_reviews: transforms.DuplicateReviews
) -> None:
    params = sequences.Params(k_core=2, numbering=numbering, duplicate_reviews=duplicate_reviews)
    users, items, interactions = built(reviews_of(list(triples)), params)
    if users.height == 0:
        return
    assert users["user_id"].to_list() == list(range(1, users.height + 1))
    assert items["item_id"].to_list() == list(range(1, items.height + 1))
    assert set(interactions["item_id"]) == set(items["item_id"])
    assert items["num_interactions"].sum() == users["num_interactions"].sum() == interactions.height
    assert items["num_train"].sum() == interactions.filter(pl.col("split") == "train").height
    for _, history in interactions.group_by("user_id"):
        number = history.height
        assert number >= LEAST_INTERACTIONS
        assert history["position"].to_list() == list(range(1, number + 1))
        assert history["split"].to_list() == ["train"] * (number - 2) + ["valid", "test"]
        assert history["timestamp"].is_sorted()
        if duplicate_reviews != "all":
            assert history["item_id"].is_unique().all()


@given(PAIRS, st.integers(3, 6))
@settings(max_examples=60, deadline=None)
def test_train_never_sees_a_later_item_of_the_same_user(triples: list[tuple[int, int, int]], most: int) -> None:
    params = sequences.Params(k_core=2, max_interactions_per_user=most)
    _, _, interactions = built(reviews_of(list(triples)), params)
    for _, history in interactions.group_by("user_id") if interactions.height else ():
        newest = dict(history.group_by("split").agg(pl.col("timestamp").max()).iter_rows())
        oldest = dict(history.group_by("split").agg(pl.col("timestamp").min()).iter_rows())
        assert newest["train"] <= oldest["valid"] <= oldest["test"]
        assert history.height <= most


def test_one_small_dump_gives_these_histories() -> None:
    triples = [
        (1, "a", 30),
        (1, "b", 10),
        (1, "c", 20),
        (2, "a", 5),
        (2, "c", 6),
        (2, "b", 7),
        (2, "b", 7),
        (3, "a", 1),
    ]
    users, items, interactions = built(
        reviews_of(list(triples)), sequences.Params(k_core=2, numbering="p5"), in_file_order=True
    )
    assert users.select("user_id", "user_key", "num_interactions").rows() == [(1, "U1", 3), (2, "U2", 3)]
    assert items.select("item_id", "item_key", "num_interactions", "num_train").rows() == [
        (1, "Bb", 2, 1), (2, "Bc", 2, 0), (3, "Ba", 2, 1),
    ]  # fmt: skip
    assert interactions.rows() == [
        (1, 1, 1, 5.0, 10, "train"), (1, 2, 2, 5.0, 20, "valid"), (1, 3, 3, 5.0, 30, "test"),
        (2, 1, 3, 5.0, 5, "train"), (2, 2, 2, 5.0, 6, "valid"), (2, 3, 1, 5.0, 7, "test"),
    ]  # fmt: skip


@pytest.mark.parametrize(("duplicate_reviews", "times"), [("first", [3]), ("last", [7]), ("all", [3, 7])])
def test_repeats_follow_the_rule(duplicate_reviews: transforms.DuplicateReviews, times: list[int]) -> None:
    frame = frame_of([(1, 1, 7), (1, 1, 3), (1, 1, 3)])
    assert sorted(transforms.deduped(frame, duplicate_reviews)["timestamp"]) == times


def test_hash_tie_break_depends_on_keys_and_seed_only() -> None:
    keys = [f"{n:02d}" for n in range(30)]
    params = sequences.Params(k_core=0)

    def order(items: list[str], seed: int = SEED) -> list[str]:
        reviews = reviews_of([("x", item, 9) for item in items])
        _, catalogue, interactions = built(reviews, params, seed=seed)
        return interactions.join(catalogue, on="item_id").sort("position")["item_key"].to_list()

    assert order(keys) == order(keys[::-1])
    assert order(keys) != sorted(order(keys))
    assert order(keys) != order(keys, seed=7)


def test_ties_by_file_keep_the_order_of_the_file() -> None:
    reviews = reviews_of([("x", item, 9) for item in "cabed"])
    _, items, interactions = built(reviews, sequences.Params(k_core=0, tie_break="file"))
    found = interactions.join(items, on="item_id").sort("position")["item_key"].to_list()
    assert found == ["Bc", "Ba", "Bb", "Be", "Bd"]


def test_a_cap_keeps_the_newest_interactions() -> None:
    reviews = reviews_of([(1, item, item) for item in range(10)])
    users, _, interactions = built(reviews, sequences.Params(k_core=0, max_interactions_per_user=4))
    assert interactions["timestamp"].to_list() == [6, 7, 8, 9]
    assert interactions["position"].to_list() == [1, 2, 3, 4]
    assert users["num_interactions"].to_list() == [4]


def test_train_first_numbers_train_items_first() -> None:
    reviews = reviews_of([(u, i, t) for u in range(6) for t, i in enumerate([u, u + 1, u + 2, u + 9])])
    _, items, _ = built(reviews, sequences.Params(k_core=0, numbering="train_first"))
    in_train = (items["num_train"] > 0).to_list()
    assert in_train == sorted(in_train, reverse=True)


def test_a_user_has_the_name_of_their_newest_review_that_has_one() -> None:
    reviews = reviews_of([(1, 1, 10), (1, 2, 30), (1, 3, 20)]).with_columns(user_name=pl.Series(["Old", None, "New"]))
    users, _, _ = built(reviews, sequences.Params(k_core=0))
    assert users["name"].to_list() == ["New"]


def test_an_item_has_the_narrowest_category_of_its_path() -> None:
    reviews = reviews_of([(1, item, item) for item in range(3)])
    metadata = pl.DataFrame(
        [("B1", "Lamp", None, ["Home", "Lamps"]), ("B2", None, "Tav", []), ("B9", "Stray", None, ["X"])],
        schema=ITEM_TYPES, orient="row",
    )  # fmt: skip
    _, items, _ = built(reviews, sequences.Params(k_core=0), metadata=metadata)
    found = {row["item_key"]: (row["title"], row["brand"], row["category"]) for row in items.to_dicts()}
    assert found == {"B0": (None, None, None), "B1": ("Lamp", None, "Lamps"), "B2": (None, "Tav", None)}


def test_an_empty_core_is_one_clear_line(sample_context: Context) -> None:
    with pytest.raises(TableError, match=r"0 of \d+ reviews in the 500-core.*set sequences\.k_core to 7 "):
        sequences.run(sequences.Params(k_core=500), sample_context)
    assert [path.name for path in sample_context.table("sequences").iterdir() if path.name.startswith(".")] == []
    assert not sample_context.table(".sequences.work").exists()


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="max_interactions_per_user = 2 must be at least 3"):
        sequences.Params(max_interactions_per_user=2)


def entry(form: str, reviews: list[str], metadata: list[str]) -> dict[str, object]:
    return {"datasets": {"format": form, "reviews": reviews, "metadata": metadata}, "beam": {}}


@pytest.fixture(scope="module")
def sample_context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = Context(
        dataset="sample", root=tmp_path_factory.mktemp("sequences"), seed=SEED,
        shared=entry("amazon2014", [sample.REVIEWS], [sample.METADATA]),
    )  # fmt: skip
    sample.run(sample.Params(), context)
    records.run(records.Params(), context)
    return context


def interactions_of(context: Context) -> pl.DataFrame:
    frame = pl.from_arrow(tables.read_table(context.table("sequences/interactions"), schema.INTERACTIONS))
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_random_numbers_do_not_leak_and_runs_are_reproducible(sample_context: Context) -> None:
    made = []
    for _ in range(2):
        sequences.run(sequences.Params(), sample_context)
        files = sorted(sample_context.table("sequences").rglob("*.*"))
        made.append([path.read_bytes() for path in files if path.is_file()])
    assert made[0] == made[1]
    assert number_rule(interactions_of(sample_context)) < 0.02
    for name in ("users", "items", "interactions"):
        notes = tables.read_manifest(sample_context.table(f"sequences/{name}"))["notes"]
        matching = notes.pop("matching", None)
        assert notes == {"numbering": "random"}
        assert (matching is not None) == (name == "items")


def test_the_samples_core_has_nearly_all_planted_histories(sample_context: Context) -> None:
    sequences.run(sequences.Params(), sample_context)
    users = tables.read_table(sample_context.table("sequences/users"), schema.USERS).num_rows
    items = tables.read_table(sample_context.table("sequences/items"), schema.CATALOGUE).num_rows
    planted = sample.Params()
    assert 0.95 * planted.num_users <= users <= planted.num_users
    assert 0.9 * 6 * 8 * planted.items_per_cell <= items <= 6 * 8 * planted.items_per_cell


def real_context(tmp_path: Path, folder: Path, *shared: Any) -> Context:
    context = Context(dataset=folder.name, root=tmp_path, seed=SEED, shared=entry(*shared))
    context.raw.parent.mkdir(parents=True)
    context.raw.symlink_to(folder.resolve())
    records.run(records.Params(), context)
    return context


@pytest.mark.real
def test_toys_has_its_published_users_items_order_and_numbers(
    tmp_path: Path, real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = real_context(
        tmp_path, real_data / "p5/toys", "p5", ["sequential_data.txt", "datamaps.json"], ["items.jsonl.gz"]
    )
    sequences.run(sequences.Params(numbering="p5"), context)
    users = tables.read_table(context.table("sequences/users"), schema.USERS).to_pydict()
    items = tables.read_table(context.table("sequences/items"), schema.CATALOGUE).to_pydict()
    interactions = interactions_of(context)
    assert (len(users["user_id"]), len(items["item_id"]), interactions.height) == (19_412, 11_924, 167_597)
    maps = json.loads((context.raw / "datamaps.json").read_bytes())
    assert dict(zip(map(str, users["user_id"]), users["user_key"], strict=True)) == maps["id2user"]
    assert dict(zip(map(str, items["item_id"]), items["item_key"], strict=True)) == maps["id2item"]
    lines = interactions.group_by("user_id", maintain_order=True).agg("item_id")
    written = [" ".join(map(str, [user, *history])) for user, history in lines.iter_rows()]
    assert written == (context.raw / "sequential_data.txt").read_text().splitlines()
    assert 0.06 < number_rule(interactions) < 0.07
    notes = tables.read_manifest(context.table("sequences/items"))["notes"]
    assert (notes["numbering"], notes["matching"]["used"]) == ("p5", 11_924)
    assert "numbering p5 leaks" in caplog.text
    numberings: tuple[transforms.Numbering, ...] = ("random", "train_first")
    for numbering in numberings:
        sequences.run(sequences.Params(numbering=numbering), context)
        assert number_rule(interactions_of(context)) < 0.005


@pytest.mark.real
def test_musical_instruments_keeps_all_its_reviews(tmp_path: Path, real_data: Path) -> None:
    names = ["reviews_Musical_Instruments_5.json.gz"], ["meta_Musical_Instruments.json.gz"]
    context = real_context(tmp_path, real_data / "amazon2014/musical_instruments", "amazon2014", *names)
    assert sequences.run(sequences.Params(), context) == 1429 + 900 + 10_261


@pytest.mark.real
def test_gift_cards_counts_a_repeated_pair_once(tmp_path: Path, real_data: Path) -> None:
    context = real_context(
        tmp_path,
        real_data / "amazon2018/gift_cards",
        "amazon2018",
        ["Gift_Cards_5.json.gz"],
        ["meta_Gift_Cards.json.gz"],
    )
    assert sequences.run(sequences.Params(), context) == 453 + 147 + 2941
    assert sequences.run(sequences.Params(k_core=0, duplicate_reviews="all"), context) == 458 + 148 + 2969


@pytest.mark.real
@pytest.mark.parametrize(("user_numbers", "least", "most"), [("table", 0.06, 0.08), ("random", 0.0, 0.005)])
def test_published_user_order_leaks_random_numbers_do_not(
    tmp_path: Path, real_data: Path, user_numbers: Literal["table", "random"], least: float, most: float
) -> None:
    context = real_context(
        tmp_path, real_data / "p5/beauty", "p5", ["sequential_data.txt", "datamaps.json"], ["items.jsonl.gz"]
    )
    sequences.run(sequences.Params(user_numbers=user_numbers), context)
    users = tables.read_table(context.table("sequences/users"), schema.USERS)
    assert sorted(users["number"].to_pylist()) == users["user_id"].to_pylist()
    interactions = tables.read_table(context.table("sequences/interactions"), schema.INTERACTIONS)
    ranks = neighbour_ranks(known_before_test(interactions), np.array([0, *users["number"].to_pylist()]))
    assert least <= float(((ranks > 0) & (ranks <= 10)).mean()) <= most
