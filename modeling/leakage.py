"""Does the answer leak into what the model sees: through item numbers, train prompts, or time.

Enters: histories, train and test prompt tables, manifests. Leaves: the `leakage` block of the metrics file.
Trade-off: every train prompt is read once, part by part, so that the check holds for what was trained on and not for
what was meant.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import schema
from features.schema import FAMILIES
from features.tables import checked_parts
from modeling.histories import Histories
from modeling.intervals import intervals
from modeling.ranking_metrics import by_user

IntArray = npt.NDArray[np.int64]
_ROWS = 16_384
_SUSPECT = 3.0
LEAKING_NUMBERINGS = ("p5",)


def leakage_block(
    *,
    rule_ranks: IntArray,
    neighbours: tuple[IntArray, IntArray],
    num_items: int,
    histories: Histories,
    interactions: pa.Table,
    prompts: Path,
    numbering: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """All checks and their verdict.

    Args:
        rule_ranks: ranks of the test items under the number rule.
        neighbours: ranks of the test items under the neighbour rule of `user_numbers`, and the same by chance.
        num_items: items of the catalogue.
        histories: known items and test items.
        interactions: `sequences/interactions`, for the time order.
        prompts: the folder with `train/<family>` and `test/<family>` tables.
        numbering: how the sequences stage numbered the items: random, train_first or p5.
        resamples: bootstrap resamples for the rule's interval.
        seed: of the bootstrap.

    Returns:
        `number_rule_hr@1`, `number_rule_hr@10`, `number_rule_chance_hr@10` (what numbers without meaning would give),
        what `pairs_in_train` finds, `test_prompts_in_train`, `valid_prompts_in_train` and `test_prompts_in_valid`
        (rows with the same source and target), `users_out_of_time_order` (null without timestamps), `numbering`,
        `numbers_leak`, `user_neighbours_hr@10` and its `user_neighbours_chance_hr@10`, `user_numbers_leak`, `leaking`.
    """
    values = by_user(rule_ranks, [1, 10])
    low = intervals(values, resamples=max(resamples, 1), seed=seed)
    near, dealt = (by_user(ranks, [10]) for ranks in neighbours)
    near_low = intervals(near, resamples=max(resamples, 1), seed=seed)["hr@10"][0]
    chance = {k: min(1.0, k / max(num_items, 1)) for k in (1, 10)}
    by_rule = any(low[f"hr@{k}"][0] > _SUSPECT * chance[k] for k in chance)
    pairs = pairs_in_train(prompts / "train", histories, num_items)
    copies = copied_prompts(prompts, "test", "train")
    disorder = out_of_time_order(interactions)
    numbers_leak = by_rule or numbering in LEAKING_NUMBERINGS
    users_leak = near_low > _SUSPECT * max(_mean(dealt["hr@10"]), chance[10])
    return {
        "number_rule_hr@1": _mean(values["hr@1"]),
        "number_rule_hr@10": _mean(values["hr@10"]),
        "number_rule_chance_hr@10": chance[10],
        **pairs,
        "test_prompts_in_train": copies,
        "valid_prompts_in_train": copied_prompts(prompts, "valid", "train"),
        "test_prompts_in_valid": copied_prompts(prompts, "test", "valid"),
        "users_out_of_time_order": disorder,
        "numbering": numbering,
        "numbers_leak": numbers_leak,
        "user_neighbours_hr@10": _mean(near["hr@10"]),
        "user_neighbours_chance_hr@10": _mean(dealt["hr@10"]),
        "user_numbers_leak": users_leak,
        "leaking": numbers_leak or users_leak or bool(pairs["test_pairs_in_train"] or copies or disorder),
    }


def pairs_in_train(train: Path, histories: Histories, num_items: int) -> dict[str, Any]:
    """Share of test (user, item) pairs that occur in any train prompt of any family.

    Rows answered "no" are left out, and so are the photos of direct rows: both hold negatives on purpose.

    Returns:
        `test_pairs_in_train` (asked for or shown), `test_pairs_in_train_targets` (asked for),
        `test_pairs_in_train_photos` (shown with that user) and `test_pairs_in_train_by_family`.
    """
    users = np.flatnonzero(histories.targets > 0)
    base = num_items + 1
    pairs = users * base + histories.targets[users]
    asked, shown = ({family: np.zeros(len(pairs), bool) for family in FAMILIES} for _ in range(2))
    for family in FAMILIES:
        for rows in _batches(train / family, ("user_id", "target_item_id", "image_item_ids", "target")):
            kept = rows.filter(pc.not_equal(rows["target"], "no"))
            owner = kept["user_id"].to_numpy().astype(np.int64)
            items = kept["target_item_id"].fill_null(0).to_numpy().astype(np.int64)
            asked[family] |= np.isin(pairs, owner * base + items)
            if family != "direct":
                lists = kept["image_item_ids"]
                owners = np.repeat(owner, pc.list_value_length(lists).to_numpy())
                shown[family] |= np.isin(pairs, owners * base + pc.list_flatten(lists).to_numpy())
    either = {family: asked[family] | shown[family] for family in FAMILIES}
    return {
        "test_pairs_in_train": _mean(np.any(list(either.values()), 0)),
        "test_pairs_in_train_targets": _mean(np.any(list(asked.values()), 0)),
        "test_pairs_in_train_photos": _mean(np.any(list(shown.values()), 0)),
        "test_pairs_in_train_by_family": {family: _mean(own) for family, own in either.items()},
    }


def copied_prompts(prompts: Path, split: str, other: str) -> int:
    """Rows of one split whose source and target both occur, word for word, in a row of the other."""
    copies = 0
    for family in FAMILIES:
        wanted = pa.concat_arrays(
            [pa.array([], pa.string()), *(_joined(rows) for rows in _batches(prompts / split / family, _WORDS))]
        )
        found = pa.array([], pa.string())
        if not len(wanted):
            continue
        for rows in _batches(prompts / other / family, _WORDS):
            texts = _joined(rows)
            found = pa.concat_arrays([found, texts.filter(pc.is_in(texts, wanted))])
        copies += int(pc.sum(pc.is_in(wanted, found)).as_py() or 0)
    return copies


def out_of_time_order(interactions: pa.Table) -> int | None:
    """Users with a train or valid interaction later than their test one; None where timestamps are missing."""
    if interactions["timestamp"].null_count or not interactions.num_rows:
        return None
    users = interactions["user_id"].to_numpy()
    times = interactions["timestamp"].to_numpy()
    test = pc.equal(interactions["split"], "test").to_numpy(zero_copy_only=False)
    limit = np.full(int(users.max()) + 1, np.iinfo(np.int64).max)
    limit[users[test]] = times[test]
    return len(np.unique(users[~test & (times > limit[users])]))


_WORDS = ("source", "target")


def _joined(rows: pa.RecordBatch) -> pa.Array:
    return pc.binary_join_element_wise(rows["source"], rows["target"], "\x1f")


def _batches(folder: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for path in checked_parts(folder, schema.prompts(*folder.parts[-2:])):
        with pq.ParquetFile(path) as part:
            yield from part.iter_batches(batch_size=_ROWS, columns=list(columns))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0
