"""Derives the verdict of an evaluation in words: findings that are good, weak or bad.

Reads the content of `evaluate.json`; returns `Finding`s and their text. Each unfavourable comparison with a baseline, a
held-out prompt, a slice or a training limit is a finding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from modeling.evaluation.explanation_findings import explanation_findings
from modeling.evaluation.finding import STATES, Finding, State

Results = Mapping[str, Any]
BASELINES = {
    "sasrec": "SASRec", "ridge": "ridge regression (EASE)", "item_knn": "item-kNN", "title_bm25": "titles (BM25)",
    "title_embedding": "title embeddings", "photo_embedding": "photo embeddings", "popularity": "popularity",
    "recent_popularity": "recent popularity", "random": "random", "number_rule": "number rule (largest + 1)",
}  # fmt: skip
NOT_COMPARED = ("random", "number_rule")  # reported in tables, never selected as best baseline
_GROUPS = {
    ("target_popularity", "tail"): "rare items", ("target_popularity", "middle"): "items of medium popularity",
    ("target_popularity", "head"): "popular items", ("target_in_train", "cold"): "cold-start items (none in train)",
    ("target_photo", "absent"): "items without a photo", ("target_photo", "present"): "items with a photo",
}  # fmt: skip
_MUCH_WORSE = 0.8  # a held-out prompt below this share of the trained prompt's hit rate is much worse
_FEWEST_USERS = 20  # smallest slice that gets a finding


def findings(results: Results) -> list[Finding]:
    """Returns all findings: the main results, then bad, weak and good ones, then the leak line."""
    all_findings = [
        *_ranking(results, "sequential"), *_ranking(results, "direct"), *_without_history(results), *_held_out(results),
        *_photos(results), *_slices(results), *explanation_findings(results), *_undertrained(results),
    ]  # fmt: skip
    first = [finding for finding in all_findings if finding.text.startswith("VIP5 ")]
    others = [finding for finding in all_findings if finding not in first]
    others.sort(key=lambda finding: -STATES.index(finding.state))
    leaks: State = "bad" if results["leakage"]["leaking"] else "good"
    return [*first, *others, Finding(leaks, leak_line(results))]


def verdict_lines(results: Results) -> list[str]:
    """Returns the text of all findings."""
    return [finding.text for finding in findings(results)]


def worst(found: Sequence[Finding]) -> State:
    """Returns the worst state among the findings; good without any."""
    return max((finding.state for finding in found), key=STATES.index, default="good")


def leak_line(results: Results) -> str:
    """Returns whether anything leaks, with every reason or with the number of copied prompts below the limit.

    Example: "Leaks: none found (explanation: 2 of 228 test prompts (0.9 %) are word for word in train)."
    """
    leakage = results["leakage"]
    if leakage["leaking"]:
        return f"Leaks: {'; '.join(leakage['reasons'])}."
    copied = [
        copies_line(family, leakage[family])
        for family in ("sequential", "direct", "explanation")
        if leakage.get(family, {}).get("copied_prompts")
    ]
    return f"Leaks: none found ({'; '.join(copied)})." if copied else "Leaks: none found."


def copies_line(family: str, counts: Results) -> str:
    """Returns how many test prompts of a family occur verbatim in train.

    Example: "explanation: 2 of 228 test prompts (0.9 %) are word for word in train"
    """
    return (
        f"{family}: {counts['copied_prompts']:,} of {counts['test_prompts']:,} test prompts "
        f"({100 * counts['copied_share']:.1f} %) are word for word in train"
    )


def main_prompt(results: Results, family: str) -> str:
    """Returns the main prompt of a family: A-3, B-5:history, B-5, or the first one evaluated; "" without any."""
    wanted = {"sequential": ("A-3",), "direct": ("B-5:history", "B-5")}[family]
    return next((key for key in (*wanted, *results[family]) if key in results[family]), "")


def best_baseline(results: Results, family: str, metric: str = "hr@10") -> str:
    """Returns the name of the baseline with the highest `metric`; "" without any."""
    blocks = results["baselines"].get(family, {})
    names = [name for name in blocks if name in BASELINES and name not in NOT_COMPARED]
    return max(names, key=lambda name: blocks[name][metric], default="")


def per_100(share: float) -> str:
    """Formats a share as users per 100: an integer from 10 on, one decimal below.

    Example:
        >>> per_100(0.2462), per_100(0.0587), per_100(0.0)
        ('25', '5.9', '0')
    """
    value = 100 * share
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")


def task_words(results: Results, family: str) -> tuple[str, str]:
    """Returns the main metric of a family and a phrase that describes it.

    With ten candidates or fewer every item is in the top ten, so hr@1 is used.
    """
    count = results.get("num_candidates", {}).get("direct", 0)
    if family == "sequential":
        return "hr@10", "finds the next item for {} of 100 users among the first ten"
    if count > 10:
        return "hr@10", f"has the bought item among its first ten of {count} candidates for {{}} of 100 users"
    return "hr@1", f"puts the bought item first of {count} candidates for {{}} of 100 users"


def _ranking(results: Results, family: str) -> list[Finding]:
    """Returns the main result of a family and the baselines that beat or equal it."""
    key, best = main_prompt(results, family), ""
    if not key:
        return []
    metric, words = task_words(results, family)
    block, baselines = results[family][key], results["baselines"].get(family, {})
    text = f"VIP5 {words.format(per_100(block[metric]))}"
    if best := best_baseline(results, family, metric):
        text += f"; best baseline {per_100(baselines[best][metric])} by {BASELINES[best]}"
    without = results.get(f"{family}_without_photos", {})
    if key in without and _has_photos(results):
        text += f"; without photos {per_100(without[key][metric])}"
    gaps = {
        name: _gap(block, baselines[name], name, metric)
        for name in baselines
        if name in BASELINES and name not in NOT_COMPARED
    }
    ahead = sorted((gap, name) for name, gap in gaps.items() if gap[2] < 0)
    task = "the next item" if family == "sequential" else "the choice among candidates"
    if ahead:
        details = ", ".join(f"{BASELINES[name]} by {_lead(gap)}" for gap, name in ahead)
        return [Finding("bad", f"{text}."), Finding("bad", f"Bad: ahead of VIP5 on {task}: {details} of 100 users.")]
    level = sorted((gap, name) for name, gap in gaps.items() if gap[1] <= 0)
    if level:
        details = ", ".join(f"{BASELINES[name]} ({_span(gap)} of 100 users)" for gap, name in level)
        return [Finding("weak", f"{text}."), Finding("weak", f"Weak: on {task} not clearly ahead of {details}.")]
    return [Finding("good", f"{text}.")]


def _gap(block: Results, other: Results, name: str, metric: str) -> tuple[float, float, float]:
    """Returns VIP5 minus a baseline with the paired interval; without intervals, the difference three times."""
    paired = block.get("differences", {}).get(name, {}).get(metric)
    difference = block[metric] - other[metric]
    mean, low, high = paired or (difference, difference, difference)
    return mean, low, high


def _lead(gap: tuple[float, float, float]) -> str:
    return f"{per_100(-gap[0])} ({per_100(-gap[2])} to {per_100(-gap[1])})"


def _span(gap: tuple[float, float, float]) -> str:
    return f"difference {per_100(gap[1])} to {per_100(gap[2])}"


def _without_history(results: Results) -> list[Finding]:
    """Returns a finding if the direct prompt without history does not beat popularity."""
    popular = results["baselines"].get("direct", {}).get("popularity")
    if popular is None or "B-5" not in results["direct"]:
        return []
    metric, _ = task_words(results, "direct")
    block = results["direct"]["B-5"]
    if _gap(block, popular, "popularity", metric)[1] > 0:
        return []
    details = f"{per_100(block[metric])} of 100 users, popularity {per_100(popular[metric])}"
    return [
        Finding("weak", f"Weak: among candidates, without the history (B-5), no better than popularity: {details}.")
    ]


def _held_out(results: Results) -> list[Finding]:
    """Returns a finding per held-out prompt that does much worse than its trained counterpart."""
    pairs = [("sequential", "A-9", "A-3"), ("direct", "B-8:history", "B-5:history"), ("direct", "B-8", "B-5")]
    weak = []
    for family, held_out, trained in pairs:
        blocks = results[family]
        if held_out not in blocks or trained not in blocks:
            continue
        metric, _ = task_words(results, family)
        held_out_rate, trained_rate = blocks[held_out][metric], blocks[trained][metric]
        high = blocks[held_out].get("ci95", {}).get(metric, (held_out_rate, held_out_rate))[1]
        if held_out_rate < _MUCH_WORSE * trained_rate and high < trained_rate:
            rates = f"{per_100(held_out_rate)} of 100 users, {per_100(trained_rate)} by {trained}"
            weak.append(Finding("weak", f"Weak: held-out prompt {held_out}: {rates}."))
    return weak


def _has_photos(results: Results) -> bool:
    """Returns whether any test item has a photo; True if the slice is missing."""
    parts = results["sequential"].get(main_prompt(results, "sequential"), {}).get("slices", {}).get("target_photo")
    return not parts or "present" in parts


def _photos(results: Results) -> list[Finding]:
    key = main_prompt(results, "sequential")
    without = results.get("sequential_without_photos", {}).get(key)
    if without is None or not _has_photos(results):
        return []
    block = results["sequential"][key]
    gap = _gap(block, without, "without_photos", "hr@10")
    if gap[1] > 0:
        return []
    details = f"{per_100(block['hr@10'])} of 100 users with them, {per_100(without['hr@10'])} without"
    if gap[2] < 0:
        return [Finding("bad", f"Bad: photos hurt: {details}.")]
    return [Finding("weak", f"Weak: photos do not help: {details}.")]


def _slices(results: Results) -> list[Finding]:
    """Returns a finding that lists the slices in which VIP5 is worse than a random ranking."""
    slices = results["sequential"].get(main_prompt(results, "sequential"), {}).get("slices", {})
    chance = min(1.0, 10 / max(1, results["num_items"]))
    groups = []
    for name, parts in slices.items():
        for label, block in parts.items():
            high = block.get("ci95", {}).get("hr@10", (0.0, 2 * block.get("hr@10", 1.0)))[1]
            if block["num_users"] >= _FEWEST_USERS and high < chance:
                group = _GROUPS.get((name, label), f"{name.replace('_', ' ')} {label}")
                groups.append(f"{group} ({per_100(block['hr@10'])} of 100 users, {per_100(chance)} at random)")
    return [Finding("weak", f"Weak: worse than random for {', '.join(groups)}.")] if groups else []


def undertrained(results: Results) -> dict[str, list[str]]:
    """Returns the undertrained baselines by name, and why."""
    notes = results.get("baseline_notes", {})
    return {name: list(note["why_not"]) for name, note in notes.items() if not note["fair"]}


def _undertrained(results: Results) -> list[Finding]:
    """Returns a finding per undertrained baseline, and per VIP5 stage that its time limit ended."""
    weak = [
        Finding("weak", f"Weak: undertrained baseline {BASELINES[name]}: {'; '.join(why)}.")
        for name, why in undertrained(results).items()
    ]
    for stage, note in results.get("training", {}).items():
        if note.get("stopped") == "max_seconds":
            reached = f"at step {note['steps']:,} of {note['planned_steps']:,}"
            weak.append(Finding("weak", f"Weak: undertrained VIP5: {stage} was ended by its time limit {reached}."))
    return weak
