"""Detects target leakage through item numbers, user numbers, train prompts and time order.

Reads histories, train and test prompt tables and manifests; returns the block `leakage` of `evaluate.json` with a
verdict and its reasons per family. All train prompts are read, part by part, so the checks cover the data that the
model was trained on.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import schema
from features.schema import FAMILIES
from features.store.tables import checked_parts
from modeling.data.user_histories import UserHistories
from modeling.evaluation.verdict import copies_line
from modeling.metrics.bootstrap import intervals
from modeling.metrics.ranking import by_user

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_ROWS = 16_384
_SUSPECT = 3.0  # a hit rate above this multiple of chance is a leak
LEAKING_NUMBERINGS = ("p5",)


def leakage_block(
    *,
    rule_ranks: IntArray,
    rule_targets: IntArray,
    neighbours: tuple[IntArray, IntArray],
    num_items: int,
    histories: UserHistories,
    interactions: pa.Table,
    prompts: Path,
    numbering: str,
    max_copied_share: float,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Runs all leakage checks and returns their results and verdict.

    Args:
        rule_ranks: ranks of the test items under the number rule.
        rule_targets: the test items of `rule_ranks`.
        neighbours: ranks of the test items under the user-neighbour rule, with real and with shuffled user numbers.
        num_items: number of items in the catalogue.
        histories: known items and test items.
        interactions: `sequences/interactions`, for the time order.
        prompts: folder of the tables `train/<family>`, `valid/<family>` and `test/<family>`.
        numbering: item numbering of the stage `sequences`: random, train_first or p5.
        max_copied_share: largest share of a family's test prompts that may occur verbatim in train.
        resamples: bootstrap resamples for the intervals of the rules.
        seed: seed of the bootstrap.

    Returns:
        `number_rule_hr@1`, `number_rule_hr@10` and their values at chance (`number_rule_chance_...`); the results of
        `pairs_in_train`; `test_prompts_in_train`, `valid_prompts_in_train` and `test_prompts_in_valid` (rows with the
        same source and target); `users_out_of_time_order` (null without timestamps); `numbering`; `numbers_leak`;
        `user_neighbours_hr@10`, `user_neighbours_chance_hr@10` and `user_numbers_leak`; per family the result of
        `family_verdicts`; `reasons` and `leaking` over all families.
    """
    values = by_user(rule_ranks, [1, 10])
    neighbour_values, shuffled = (by_user(ranks, [10]) for ranks in neighbours)
    neighbour_low = intervals(neighbour_values, resamples=max(resamples, 1), seed=seed)["hr@10"][0]
    chance = {k: min(1.0, k / max(num_items, 1)) for k in (1, 10)}
    pairs = pairs_in_train(prompts / "train", histories, num_items)
    numbers_leak = item_numbers_leak(values, rule_targets, num_items, resamples=max(resamples, 1), seed=seed)
    results: dict[str, Any] = {
        "number_rule_hr@1": _mean(values["hr@1"]),
        "number_rule_hr@10": _mean(values["hr@10"]),
        "number_rule_chance_hr@1": chance[1],
        "number_rule_chance_hr@10": chance[10],
        **pairs,
        "test_prompts_in_train": copied_prompts(prompts, "test", "train"),
        "valid_prompts_in_train": copied_prompts(prompts, "valid", "train"),
        "test_prompts_in_valid": copied_prompts(prompts, "test", "valid"),
        "users_out_of_time_order": out_of_time_order(interactions),
        "numbering": numbering,
        "numbers_leak": numbers_leak or numbering in LEAKING_NUMBERINGS,
        "user_neighbours_hr@10": _mean(neighbour_values["hr@10"]),
        "user_neighbours_chance_hr@10": _mean(shuffled["hr@10"]),
        "user_numbers_leak": neighbour_low > _SUSPECT * max(_mean(shuffled["hr@10"]), chance[10]),
    }
    copies = {family: copies_in_family(prompts, family) for family in FAMILIES}
    verdicts = family_verdicts(results, copies, max_copied_share)
    reasons = list(dict.fromkeys(reason for verdict in verdicts.values() for reason in verdict["reasons"]))
    return {
        **results,
        **verdicts,
        "reasons": reasons,
        "leaking": any(verdict["leaks"] for verdict in verdicts.values()),
    }


def item_numbers_leak(
    values: Mapping[str, FloatArray], targets: IntArray, num_items: int, *, resamples: int, seed: int
) -> bool:
    """Returns whether the number rule hits far above chance, averaged over users and averaged over target items.

    The average over items excludes a single popular item whose random number happens to follow that of another one.
    """
    users = intervals(values, resamples=resamples, seed=seed)
    counts = np.bincount(targets, minlength=num_items + 1)
    is_target = counts > 0
    hits = {
        f"hr@{k}": np.bincount(targets, values[f"hr@{k}"], minlength=num_items + 1)[is_target] / counts[is_target]
        for k in (1, 10)
    }
    items = intervals(hits, resamples=resamples, seed=seed)
    lows = {k: min(users[f"hr@{k}"][0], items[f"hr@{k}"][0]) for k in (1, 10)}
    return any(low > _SUSPECT * min(1.0, k / max(num_items, 1)) for k, low in lows.items())


def family_verdicts(
    results: Mapping[str, Any], copies: Mapping[str, Mapping[str, Any]], max_copied_share: float
) -> dict[str, dict[str, Any]]:
    """Returns `leaks`, `reasons` and the counts of `copies_in_family` per family.

    Leaks of the next item (numbers, pairs, time) apply to both ranking families. Copied prompts apply to their own
    family: always if a train prompt is about the same user and item, otherwise above `max_copied_share`.
    """
    verdicts = {}
    ranking = ranking_reasons(results)
    for family, counts in copies.items():
        reasons = [] if family == "explanation" else list(ranking)
        if counts["pairs_in_train"]:
            reasons.append(
                f"{family}: {counts['pairs_in_train']:,} of {counts['test_prompts']:,} test prompts are about a user "
                "and item that train prompts of this family are about (allowed: none)"
            )
        if counts["copied_share"] > max_copied_share:
            reasons.append(f"{copies_line(family, counts)} (allowed: {_percent(max_copied_share)})")
        verdicts[family] = {"leaks": bool(reasons), "reasons": reasons, **counts}
    return verdicts


def ranking_reasons(results: Mapping[str, Any]) -> list[str]:
    """Returns why the ranking families leak, apart from copied prompts; empty if they do not."""
    reasons = []
    if results["numbers_leak"]:
        reasons.append(
            f"ranking: item numbers ({results['numbering']}) reveal the next item: counting up from the largest number "
            f"of the history finds {_percent(results['number_rule_hr@1'])} at once and "
            f"{_percent(results['number_rule_hr@10'])} within ten steps (by chance "
            f"{_percent(results['number_rule_chance_hr@1'])} and {_percent(results['number_rule_chance_hr@10'])})"
        )
    if results["user_numbers_leak"]:
        reasons.append(
            "ranking: user numbers reveal the next item: the items of the nearest user numbers contain it for "
            f"{_percent(results['user_neighbours_hr@10'])} "
            f"(by chance {_percent(results['user_neighbours_chance_hr@10'])})"
        )
    if results["test_pairs_in_train"]:
        shares = results["test_pairs_in_train_by_family"]
        where = ", ".join(f"{family} {_percent(share)}" for family, share in shares.items() if share)
        reasons.append(
            f"ranking: {_percent(results['test_pairs_in_train'])} of the test user-item pairs occur in train prompts "
            f"(by family: {where}; allowed: none)"
        )
    if results["users_out_of_time_order"]:
        reasons.append(
            f"ranking: {results['users_out_of_time_order']:,} users have a train or valid item later than the test item"
        )
    return reasons


def pairs_in_train(train: Path, histories: UserHistories, num_items: int) -> dict[str, Any]:
    """Computes the share of test (user, item) pairs that occur in any train prompt of any family.

    Rows with the target "no" and the photos of direct rows are skipped, because they contain negatives by design.

    Returns:
        `test_pairs_in_train` (as target or photo), `test_pairs_in_train_targets` (as target),
        `test_pairs_in_train_photos` (as photo) and `test_pairs_in_train_by_family`.
    """
    users = np.flatnonzero(histories.targets > 0)
    base = num_items + 1
    pairs = users * base + histories.targets[users]
    asked, shown = ({family: np.zeros(len(pairs), bool) for family in FAMILIES} for _ in range(2))
    for family in FAMILIES:
        for rows in _batches(train / family, ("user_id", "target_item_id", "image_item_ids", "target")):
            positives = rows.filter(pc.not_equal(rows["target"], "no"))
            users_of_rows = positives["user_id"].to_numpy().astype(np.int64)
            items = positives["target_item_id"].fill_null(0).to_numpy().astype(np.int64)
            asked[family] |= np.isin(pairs, users_of_rows * base + items)
            if family != "direct":
                lists = positives["image_item_ids"]
                owners = np.repeat(users_of_rows, pc.list_value_length(lists).to_numpy())
                shown[family] |= np.isin(pairs, owners * base + pc.list_flatten(lists).to_numpy())
    in_train = {family: asked[family] | shown[family] for family in FAMILIES}
    return {
        "test_pairs_in_train": _mean(np.any(list(in_train.values()), 0)),
        "test_pairs_in_train_targets": _mean(np.any(list(asked.values()), 0)),
        "test_pairs_in_train_photos": _mean(np.any(list(shown.values()), 0)),
        "test_pairs_in_train_by_family": {family: _mean(is_pair) for family, is_pair in in_train.items()},
    }


def copied_prompts(prompts: Path, split: str, other: str) -> int:
    """Returns the number of rows of one split whose source and target occur verbatim in one row of the other split."""
    copies = 0
    for family in FAMILIES:
        wanted = pa.concat_arrays(
            [pa.array([], pa.string()), *(_joined(rows) for rows in _batches(prompts / split / family, _WORDS))]
        )
        matches = pa.array([], pa.string())
        if not len(wanted):
            continue
        for rows in _batches(prompts / other / family, _WORDS):
            texts = _joined(rows)
            matches = pa.concat_arrays([matches, texts.filter(pc.is_in(texts, wanted))])
        copies += int(pc.sum(pc.is_in(wanted, matches)).as_py() or 0)
    return copies


def copies_in_family(prompts: Path, family: str) -> dict[str, Any]:
    """Counts the test prompts of a family that occur in its train prompts; rows with the target "no" are skipped.

    Returns:
        `test_prompts`; `copied_prompts` and `copied_share` (source and target occur verbatim in train, for any user);
        `pairs_in_train` (explanations only: a train row is about the same user and item; `pairs_in_train()` counts
        the pairs of the ranking families).
    """
    columns = ("user_id", "image_item_ids", *_WORDS)
    words, pairs = [], [np.zeros(0, np.int64)]
    for rows in _batches(prompts / "test" / family, columns):
        positives = rows.filter(pc.not_equal(rows["target"], "no"))
        words.append(_joined(positives))
        pairs.append(_explained_pairs(positives))
    test_pairs, test_texts = np.concatenate(pairs), pa.concat_arrays([pa.array([], pa.string()), *words])
    copied, same_pair = np.zeros(len(test_texts), bool), np.zeros(len(test_texts), bool)
    for rows in _batches(prompts / "train" / family, columns) if len(test_texts) else ():
        copied |= pc.is_in(test_texts, _joined(rows)).to_numpy(zero_copy_only=False)
        if family == "explanation":
            same_pair |= np.isin(test_pairs, _explained_pairs(rows)) & (test_pairs > 0)
    return {
        "test_prompts": len(test_texts),
        "copied_prompts": int(copied.sum()),
        "copied_share": _mean(copied),
        "pairs_in_train": int(same_pair.sum()),
    }


def _explained_pairs(rows: pa.RecordBatch) -> IntArray:
    """Returns (N,) one integer per (user, last item shown) of an explanation prompt; 0 without an item."""
    lists = rows["image_item_ids"]
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
    flat, ends = pc.list_flatten(lists).to_numpy(), np.cumsum(lengths)
    last = np.zeros(len(lengths), np.int64)
    last[lengths > 0] = flat[ends[lengths > 0] - 1]
    owners = rows["user_id"].to_numpy().astype(np.int64)
    pairs: IntArray = np.where(last > 0, owners << 32 | last, 0)
    return pairs


def out_of_time_order(interactions: pa.Table) -> int | None:
    """Returns the number of users with a train or valid interaction after their test one; None without timestamps."""
    if interactions["timestamp"].null_count or not interactions.num_rows:
        return None
    users = interactions["user_id"].to_numpy()
    times = interactions["timestamp"].to_numpy()
    test = pc.equal(interactions["split"], "test").to_numpy(zero_copy_only=False)
    limit = np.full(int(users.max()) + 1, np.iinfo(np.int64).max)
    limit[users[test]] = times[test]
    return len(np.unique(users[~test & (times > limit[users])]))


_WORDS = ("source", "target")


def _percent(share: float) -> str:
    """Formats a share as a percentage; shares below 0.1 % get two significant digits: 0.0003 is "0.03 %"."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.2g} %"


def _joined(rows: pa.RecordBatch) -> pa.Array:
    return pc.binary_join_element_wise(rows["source"], rows["target"], "\x1f")


def _batches(folder: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for path in checked_parts(folder, schema.prompts(*folder.parts[-2:])):
        with pq.ParquetFile(path) as part:
            yield from part.iter_batches(batch_size=_ROWS, columns=list(columns))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0
