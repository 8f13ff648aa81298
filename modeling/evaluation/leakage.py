"""Does the answer leak into what the model sees: through item numbers, train prompts, or time.

Enters: histories, train and test prompt tables, manifests. Leaves: the `leakage` block of the metrics file, with a
verdict and its reasons by family.
Trade-off: every train prompt is read once, part by part, so that the check holds for what was trained on and not for
what was meant.
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
_SUSPECT = 3.0
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
    """All checks and their verdict.

    Args:
        rule_ranks: ranks of the test items under the number rule.
        rule_targets: these test items.
        neighbours: ranks of the test items under the neighbour rule of `user_numbers`, and the same by chance.
        num_items: items of the catalogue.
        histories: known items and test items.
        interactions: `sequences/interactions`, for the time order.
        prompts: the folder with `train/<family>` and `test/<family>` tables.
        numbering: how the sequences stage numbered the items: random, train_first or p5.
        max_copied_share: of a family's test prompts, the share that may be word for word in train.
        resamples: bootstrap resamples for the rule's interval.
        seed: of the bootstrap.

    Returns:
        `number_rule_hr@1`, `number_rule_hr@10`, and what meaningless numbers would give (`number_rule_chance_...`),
        what `pairs_in_train` finds, `test_prompts_in_train`, `valid_prompts_in_train` and `test_prompts_in_valid`
        (rows with the same source and target), `users_out_of_time_order` (null without timestamps), `numbering`,
        `numbers_leak`, `user_neighbours_hr@10` and its `user_neighbours_chance_hr@10`, `user_numbers_leak`; by family
        what `family_verdicts` says; `reasons` and `leaking` of all families together.
    """
    values = by_user(rule_ranks, [1, 10])
    near, dealt = (by_user(ranks, [10]) for ranks in neighbours)
    near_low = intervals(near, resamples=max(resamples, 1), seed=seed)["hr@10"][0]
    chance = {k: min(1.0, k / max(num_items, 1)) for k in (1, 10)}
    pairs = pairs_in_train(prompts / "train", histories, num_items)
    tells = numbers_tell(values, rule_targets, num_items, resamples=max(resamples, 1), seed=seed)
    found: dict[str, Any] = {
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
        "numbers_leak": tells or numbering in LEAKING_NUMBERINGS,
        "user_neighbours_hr@10": _mean(near["hr@10"]),
        "user_neighbours_chance_hr@10": _mean(dealt["hr@10"]),
        "user_numbers_leak": near_low > _SUSPECT * max(_mean(dealt["hr@10"]), chance[10]),
    }
    copies = {family: copies_in_family(prompts, family) for family in FAMILIES}
    verdicts = family_verdicts(found, copies, max_copied_share)
    reasons = list(dict.fromkeys(reason for own in verdicts.values() for reason in own["reasons"]))
    return {**found, **verdicts, "reasons": reasons, "leaking": any(own["leaks"] for own in verdicts.values())}


def numbers_tell(
    values: Mapping[str, FloatArray], targets: IntArray, num_items: int, *, resamples: int, seed: int
) -> bool:
    """Whether the number rule hits far above chance, both over users and over the items that they are asked for.

    Averaged over users alone, one popular item whose random number happens to follow that of another one would do.
    """
    users = intervals(values, resamples=resamples, seed=seed)
    counts = np.bincount(targets, minlength=num_items + 1)
    asked = counts > 0
    hits = {
        f"hr@{k}": np.bincount(targets, values[f"hr@{k}"], minlength=num_items + 1)[asked] / counts[asked]
        for k in (1, 10)
    }
    items = intervals(hits, resamples=resamples, seed=seed)
    lows = {k: min(users[f"hr@{k}"][0], items[f"hr@{k}"][0]) for k in (1, 10)}
    return any(low > _SUSPECT * min(1.0, k / max(num_items, 1)) for k, low in lows.items())


def family_verdicts(
    found: Mapping[str, Any], copies: Mapping[str, Mapping[str, Any]], max_copied_share: float
) -> dict[str, dict[str, Any]]:
    """By family: `leaks`, `reasons`, and what `copies_in_family` counts.

    What tells the next item (numbers, pairs, time) is a leak of both ranking families. Copied prompts are one of their
    own family: always where the train prompt is about the same user and item, else where their share is too large.
    """
    verdicts = {}
    ranking = ranking_reasons(found)
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


def ranking_reasons(found: Mapping[str, Any]) -> list[str]:
    """Why the ranking families leak, whatever their copied prompts; empty where they do not."""
    reasons = []
    if found["numbers_leak"]:
        reasons.append(
            f"ranking: item numbers ({found['numbering']}) tell the next item: counting on from the largest number of "
            f"the history finds {_percent(found['number_rule_hr@1'])} at once and "
            f"{_percent(found['number_rule_hr@10'])} within ten steps (by chance "
            f"{_percent(found['number_rule_chance_hr@1'])} and {_percent(found['number_rule_chance_hr@10'])})"
        )
    if found["user_numbers_leak"]:
        reasons.append(
            "ranking: user numbers tell the next item: the items of the nearest numbers hold it for "
            f"{_percent(found['user_neighbours_hr@10'])} (by chance {_percent(found['user_neighbours_chance_hr@10'])})"
        )
    if found["test_pairs_in_train"]:
        shares = found["test_pairs_in_train_by_family"]
        where = ", ".join(f"{family} {_percent(share)}" for family, share in shares.items() if share)
        reasons.append(
            f"ranking: {_percent(found['test_pairs_in_train'])} of the test user-item pairs occur in train prompts "
            f"(by family: {where}; allowed: none)"
        )
    if found["users_out_of_time_order"]:
        reasons.append(
            f"ranking: {found['users_out_of_time_order']:,} users have a train or valid item later than the test item"
        )
    return reasons


def pairs_in_train(train: Path, histories: UserHistories, num_items: int) -> dict[str, Any]:
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


def copies_in_family(prompts: Path, family: str) -> dict[str, Any]:
    """How many test prompts of a family stand in its train prompts; rows answered "no" hold negatives and do not count.

    Returns:
        `test_prompts`; `copied_prompts` and `copied_share` (source and target word for word in train, whoever's);
        `pairs_in_train` (explanations only: the train table has a row about the same user and item; the pairs of the
        ranking families are those of `pairs_in_train`).
    """
    columns = ("user_id", "image_item_ids", *_WORDS)
    words, pairs = [], [np.zeros(0, np.int64)]
    for rows in _batches(prompts / "test" / family, columns):
        kept = rows.filter(pc.not_equal(rows["target"], "no"))
        words.append(_joined(kept))
        pairs.append(_explained_pairs(kept))
    asked, wanted = np.concatenate(pairs), pa.concat_arrays([pa.array([], pa.string()), *words])
    copied, same = np.zeros(len(wanted), bool), np.zeros(len(wanted), bool)
    for rows in _batches(prompts / "train" / family, columns) if len(wanted) else ():
        copied |= pc.is_in(wanted, _joined(rows)).to_numpy(zero_copy_only=False)
        if family == "explanation":
            same |= np.isin(asked, _explained_pairs(rows)) & (asked > 0)
    return {
        "test_prompts": len(wanted),
        "copied_prompts": int(copied.sum()),
        "copied_share": _mean(copied),
        "pairs_in_train": int(same.sum()),
    }


def _explained_pairs(rows: pa.RecordBatch) -> IntArray:
    """(N,) a number of the user and the item that an explanation prompt is about, the last one shown; 0 without one."""
    lists = rows["image_item_ids"]
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
    flat, ends = pc.list_flatten(lists).to_numpy(), np.cumsum(lengths)
    last = np.zeros(len(lengths), np.int64)
    last[lengths > 0] = flat[ends[lengths > 0] - 1]
    owners = rows["user_id"].to_numpy().astype(np.int64)
    pairs: IntArray = np.where(last > 0, owners << 32 | last, 0)
    return pairs


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


def _percent(share: float) -> str:
    """Two digits where one would hide that there is something: 0.0003 is "0.03 %"."""
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.2g} %"


def _joined(rows: pa.RecordBatch) -> pa.Array:
    return pc.binary_join_element_wise(rows["source"], rows["target"], "\x1f")


def _batches(folder: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for path in checked_parts(folder, schema.prompts(*folder.parts[-2:])):
        with pq.ParquetFile(path) as part:
            yield from part.iter_batches(batch_size=_ROWS, columns=list(columns))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0
