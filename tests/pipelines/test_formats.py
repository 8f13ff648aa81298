"""Stages behind `records` run on data without metadata, ratings, texts or times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import identifiers, schema
from features.runtime.stage import Context
from features.store import tables
from pipelines import candidates, explanations, prompts, records, sequences


def ingested(root: Path, files: dict[str, bytes], form: str, **entry: Any) -> Context:
    shared = {"datasets": {"format": form, "reviews": list(files)[:1], "metadata": list(files)[1:]} | entry, "beam": {}}
    context = Context(dataset="tiny", root=root, seed=1, shared=shared | {"num_visual_tokens": 1})
    context.raw.mkdir(parents=True)
    for name, data in files.items():
        (context.raw / name).write_bytes(data)
    return context


def histories() -> dict[int, list[int]]:
    """Twelve of 30 items for each of 40 users."""
    generator = np.random.default_rng(3)
    return {user: (generator.permutation(30)[:12] + 1).tolist() for user in range(1, 41)}


def rating_lines() -> bytes:
    return b"".join(
        b"%d,%d,%d\n" % (user, item, 1_400_000_000 + n)
        for user, items in histories().items()
        for n, item in enumerate(items)
    )


def sequence_lines() -> bytes:
    return b"".join(
        b"%d %s\n" % (user, b" ".join(b"%d" % item for item in items)) for user, items in histories().items()
    )


CASES = {"ratings": rating_lines(), "sequences": sequence_lines()}


@pytest.mark.parametrize("form", CASES)
def test_a_dataset_of_interactions_alone_gives_prompts(tmp_path: Path, form: str) -> None:
    context = ingested(tmp_path, {"x.txt": CASES[form]}, form)
    records.run(records.Params(), context)
    sequences.run(sequences.Params(k_core=3), context)
    explanations.run(explanations.Params(), context)
    identifiers.run(identifiers.Params(), context)
    candidates.run(candidates.Params(num_negatives=9), context)
    prompts.run(prompts.Params(num_candidates=5), context)
    keys = {row["item_id"]: row["item_key"] for row in read(context, schema.CATALOGUE)}
    users = {row["user_id"]: row["user_key"] for row in read(context, schema.USERS)}
    found: dict[int, list[int]] = {}
    for row in read(context, schema.INTERACTIONS):
        found.setdefault(int(users[row["user_id"]]), []).append(int(keys[row["item_id"]]))
        assert row["rating"] is None
    assert found == histories()
    counts = {
        name: len(read(context, schema.prompts("test", name))) for name in ("sequential", "direct", "explanation")
    }
    assert counts["sequential"] >= 40
    assert counts["direct"] >= 40
    assert counts["explanation"] == 0


def read(context: Context, table: schema.Table) -> list[dict[str, Any]]:
    return list(tables.read_table(context.table(table.name), table).to_pylist())


def test_movielens_is_read_whole(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "movielens_small"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    files = {name: (folder / name).read_bytes() for name in ("ratings.csv", "movies.csv")}
    context = ingested(tmp_path, files, "ratings", rating_range=[0.5, 5.0])
    records.run(records.Params(readers_per_file=2), context)
    accounts = tables.read_manifest(context.table("records/reviews"))["notes"]["files"]
    assert accounts["ratings.csv"] == {"lines": 100_836, "kept": 100_836, "rejected": 0, "rows": 100_836}
    assert accounts["movies.csv"] == {"lines": 9742, "kept": 9742, "rejected": 0, "rows": 9742}
    reviews = read(context, schema.REVIEWS)
    assert (len({row["user_key"] for row in reviews}), len({row["item_key"] for row in reviews})) == (610, 9724)
    sequences.run(sequences.Params(k_core=5), context)
    notes = [len(read(context, table)) for table in (schema.INTERACTIONS, schema.USERS, schema.CATALOGUE)]
    assert notes == [90_274, 610, 3650]
