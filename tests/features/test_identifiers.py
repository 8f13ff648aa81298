import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import identifiers
from features.errors import ParamsError, TableError
from features.item_codes.residual_kmeans import (
    blocks,
    co_purchases,
    hierarchical_codes,
    kmeans,
    residual_codes,
    spectral_rows,
    with_collisions_resolved,
)
from features.runtime import stage
from features.runtime.params import build
from features.runtime.seeds import rng
from features.schema import CATALOGUE, IDENTIFIERS, INTERACTIONS, embeddings, text_embeddings
from features.store.embeddings import vector_table
from features.store.tables import Provenance, from_rows, read_manifest, read_table, write_table

SCHEMES = ("token", "number", "semantic", "collaborative")
NUM_ITEMS, NUM_GROUPS, WIDTH = 60, 4, 8
NOBODY = Provenance(stage="t", params={})


def group(item_id: int) -> int:
    return item_id % NUM_GROUPS


def shop(root: Path, *, held_out: int = 0) -> stage.Context:
    """60 items in 4 groups that look alike and sell together; `held_out` changes the purchases of valid and test."""
    folder, generator = root / "data/shop", rng(7, "shop")
    item_ids = list(range(1, NUM_ITEMS + 1))
    rows = [
        {
            "item_id": n,
            "item_key": f"B{n}",
            "title": "t",
            "brand": None,
            "category": None,
            "num_interactions": 1,
            "num_train": 1,
        }
        for n in item_ids
    ]
    write_table(folder / "sequences/items", CATALOGUE, from_rows(CATALOGUE, rows), NOBODY)
    bought = []
    for user in range(1, 81):
        members = [n for n in item_ids if group(n) == user % NUM_GROUPS]
        own = generator.choice(members, 6, replace=False).tolist()
        late = [(n + held_out - 1) % NUM_ITEMS + 1 for n in own[4:]]
        for position, (n, split) in enumerate(zip(own[:4] + late, ["train"] * 4 + ["valid", "test"], strict=True), 1):
            bought.append(
                {"user_id": user, "position": position, "item_id": n, "rating": None, "timestamp": None, "split": split}
            )
    write_table(folder / "sequences/interactions", INTERACTIONS, from_rows(INTERACTIONS, bought), NOBODY)
    centres = generator.normal(size=(NUM_GROUPS, WIDTH))
    looks = np.stack([centres[group(n)] for n in item_ids]) + 0.05 * generator.normal(size=(NUM_ITEMS, WIDTH))
    looks[5] = 0
    columns = {"status": ["missing" if n == 6 else "ok" for n in item_ids], "sha256": [None] * NUM_ITEMS}
    table = embeddings(WIDTH)
    write_table(folder / "images/embeddings", table, vector_table(table, item_ids, looks, columns), NOBODY)
    titles = text_embeddings(WIDTH)
    write_table(folder / "texts", titles, vector_table(titles, item_ids, looks[:, ::-1]), NOBODY)
    return stage.Context(dataset="shop", root=root, seed=3, shared={})


def run(context: stage.Context, scheme: str, **params: object) -> list[dict[str, object]]:
    assert identifiers.run(identifiers.Params(scheme=scheme, **params), context) == NUM_ITEMS
    return read_table(context.table("identifiers"), IDENTIFIERS).to_pylist()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_item_has_its_own_code_and_text(tmp_path, scheme):
    rows = run(shop(tmp_path), scheme, levels=2, codebook_size=4)
    assert [row["item_id"] for row in rows] == list(range(1, NUM_ITEMS + 1))
    assert len({tuple(row["code"]) for row in rows}) == NUM_ITEMS
    assert len({row["text"] for row in rows}) == NUM_ITEMS
    for row in rows:
        parts = re.findall(r"<[a-z]+_(\d+)>", row["text"]) or [row["text"]]
        assert [int(part) for part in parts] == row["code"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equal_runs_give_equal_bytes(tmp_path, scheme):
    parts = []
    for name in ("a", "b"):
        run(shop(tmp_path / name), scheme, levels=2, codebook_size=4)
        parts.append((tmp_path / name / "data/shop/identifiers/part-00000.parquet").read_bytes())
    assert parts[0] == parts[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_codes_kept_from_the_same_catalogue_give_the_same_table(tmp_path, scheme):
    context = shop(tmp_path)
    run(context, scheme, levels=2, codebook_size=4)
    table, kept = context.table("identifiers"), tmp_path / "kept"
    table.rename(kept)
    run(context, scheme, levels=2, codebook_size=4, previous="kept")
    for name in ("part-00000.parquet", "_manifest.json"):  # so that nothing after it is done again
        assert (table / name).read_bytes() == (kept / name).read_bytes()


@pytest.mark.parametrize("scheme", ["semantic", "collaborative"])
def test_purchases_of_valid_and_test_do_not_move_a_code(tmp_path, scheme):
    one = run(shop(tmp_path / "a"), scheme, levels=2, codebook_size=4)
    other = run(shop(tmp_path / "b", held_out=11), scheme, levels=2, codebook_size=4)
    assert one == other


@pytest.mark.parametrize("scheme", ["semantic", "collaborative"])
def test_items_that_belong_together_share_their_first_code(tmp_path, scheme):
    context = shop(tmp_path)
    bought = read_table(context.table("sequences/interactions"), INTERACTIONS).to_pylist()
    known = {row["item_id"] for row in bought if row["split"] == "train"} - {6}  # 6 has no photo
    rows = run(context, scheme, levels=2, codebook_size=4)
    firsts = {(group(row["item_id"]), row["code"][0]) for row in rows if row["item_id"] in known}
    assert len(firsts) == NUM_GROUPS


def test_token_and_number_write_the_item_number(tmp_path):
    context = shop(tmp_path)
    assert run(context, "token")[16] == {"item_id": 17, "code": [17], "text": "<item_17>"}
    assert run(context, "number")[16] == {"item_id": 17, "code": [17], "text": "17"}


def test_collisions_are_resolved_by_the_last_code_and_counted(tmp_path):
    context = shop(tmp_path)
    rows = run(context, "semantic", levels=1, codebook_size=4)
    notes = read_manifest(context.table("identifiers"))["notes"]
    assert notes["collisions"] == NUM_ITEMS - len({row["code"][0] for row in rows})
    assert notes["code_length"] == 2
    assert notes["tokens"] == len({part for row in rows for part in re.findall(r"<[^>]+>", row["text"])})


def test_an_item_table_of_another_catalogue_is_refused(tmp_path):
    context = shop(tmp_path)
    table = text_embeddings(WIDTH)
    write_table(context.table("texts"), table, vector_table(table, [1, 2], np.ones((2, WIDTH))), NOBODY)
    with pytest.raises(TableError, match="texts with 2 items"):
        run(context, "semantic")


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(ParamsError, match="semantic"):
        build(identifiers.Params, {"scheme": "semantik"}, where="identifiers")


def test_without_a_size_codebooks_grow_with_the_catalogue(tmp_path):
    assert [identifiers.enough_values(n, 3) for n in (368, 11_924, 1_000_000)] == [16, 64, 256]
    rows = run(shop(tmp_path), "semantic", levels=2)
    assert {max(row["code"][:2]) < 16 for row in rows} == {True}
    with pytest.raises(ParamsError, match="codebook_size = 0"):
        build(identifiers.Params, {"codebook_size": 0}, where="identifiers")


def test_a_repeated_code_is_an_error():
    with pytest.raises(TableError, match="items 4 and 9 with the same code"):
        identifiers.check_unique([4, 9], [[1, 2], [1, 2]], ["<a_1><b_2>", "<a_1><b_2>"])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_resolved_codes_are_unique_and_keep_their_beginning(codes):
    given_codes = np.array(codes)
    found, collisions = with_collisions_resolved(given_codes)
    assert np.array_equal(found[:, :2], given_codes)
    assert len({tuple(code) for code in found.tolist()}) == len(codes)
    assert collisions == len(codes) - len(set(codes))


def test_kmeans_finds_separate_clouds_and_distinct_rows():
    cloud = rng(0, "cloud").normal(0, 0.1, (30, 2)) + np.repeat([[0, 0], [5, 0], [0, 5]], 10, axis=0)
    labels = kmeans(cloud, 3, 1, "test")
    assert [len(set(labels[start : start + 10])) for start in (0, 10, 20)] == [1, 1, 1]
    assert len(set(labels.tolist())) == 3
    repeated = np.array([[0.0], [0.0], [1.0]])
    assert len(set(kmeans(repeated, 5, 1, "test").tolist())) == 2


def test_residual_codes_explain_more_with_every_level():
    rows = rng(0, "rows").normal(size=(200, 6))
    codes = residual_codes(rows, 3, 8, 1)
    errors = []
    for levels in (1, 2, 3):
        keys = [tuple(code) for code in codes[:, :levels].tolist()]
        means = {key: rows[[k == key for k in keys]].mean(axis=0) for key in set(keys)}
        errors.append(sum(((row - means[key]) ** 2).sum() for row, key in zip(rows, keys, strict=True)))
    assert errors[0] > errors[1] > errors[2]


def test_co_purchases_count_users_once_without_diagonal():
    found = co_purchases(np.array([1, 1, 1, 2, 2, 3]), np.array([0, 2, 2, 0, 2, 1]), 4).toarray()
    assert found.tolist() == [[0, 0, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]


def test_no_purchases_at_all_still_give_codes():
    empty = co_purchases(np.array([], np.int64), np.array([], np.int64), 40)
    assert not spectral_rows(empty, 8, 1).any()
    codes, _ = with_collisions_resolved(hierarchical_codes(empty, 2, 4, 1))
    assert len({tuple(code) for code in codes.tolist()}) == 40


def test_a_block_that_an_item_lacks_says_nothing():
    found = blocks([(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]]), 1.0), (np.ones((3, 1)), 0.0)])
    assert found.tolist() == [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
