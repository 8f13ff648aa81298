"""The quality gate, which decides whether a challenger is promoted.

Compares the challenger with the champion and with simple baselines of its own run, and checks its tables. Reads both
metrics files, the rankings of both models and the tables; returns a verdict with every check.

Trade-off: users with the same held-out item on both sides are compared in pairs, which detects differences that two
separate confidence intervals hide. Below `min_paired_share` the gate falls back to separate intervals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from features import schema
from features.errors import TableError
from features.runtime.stage import Places
from features.store.tables import MANIFEST, read_table
from flows.registry.sealed_tables import comparable
from modeling.metrics.bootstrap import differences
from modeling.metrics.ranking import by_user

Block = Mapping[str, Any]
Baseline = Literal[
    "random", "popularity", "recent_popularity", "item_knn", "title_bm25", "title_embedding", "photo_embedding",
    "ridge", "sasrec",
]  # fmt: skip
"""Baselines that `evaluate` measures for every family of prompts."""


@dataclass(frozen=True, kw_only=True)
class GateParams:
    """Parameters of the gate (section `retrain.gate`)."""

    family: Literal["sequential", "direct"] = "sequential"
    """Family of the prompt on which the gate decides."""
    prompt: str = "A-3"
    """Key of the prompt in the metrics file."""
    metric: Literal["hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr@10"] = "ndcg@10"
    """Metric that must improve by more than its 95 % confidence interval."""
    baselines: tuple[Baseline, ...] = ("popularity", "item_knn", "title_bm25")
    """Baselines of the same run that the model must not lose to, by a paired 95 % interval entirely below 0."""
    may_lose_to: tuple[Baseline, ...] = ()
    """Baselines that a promoted model may lose to, or that its run may lack; the verdict reports them."""
    max_slice_regression: float = 0.2
    """Maximum relative loss of a slice against the champion's value."""
    min_slice_users: int = 100
    """Minimum number of users of a slice, on both sides, for its check."""
    min_paired_share: float = 0.5
    """Minimum share of the challenger's users with the same held-out item for the paired comparison."""
    resamples: int = 1000
    """Bootstrap resamples of the paired comparison."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_slice_regression <= 1 or not 0 < self.min_paired_share <= 1:
            raise ValueError("max_slice_regression must be in [0, 1] and min_paired_share in (0, 1]")
        if self.min_slice_users < 1 or self.resamples < 100:
            raise ValueError("min_slice_users must be at least 1 and resamples at least 100")
        if others := [name for name in self.may_lose_to if name not in self.baselines]:
            raise ValueError(f"may_lose_to lists {', '.join(others)}, which baselines does not list")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of the gate: what was found, what was needed, whether it passed."""

    name: str
    passed: bool
    found: str
    needed: str
    kind: Literal["sound", "better"]
    """sound: a model that fails the check is refused; better: a model that fails it is not promoted."""
    allowed: bool = False
    """Whether the check passed only because a parameter of the gate allows it."""
    baseline: str | None = None
    """The baseline that the model is compared with, or None."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision: promote; keep, if the challenger is sound but not good enough; refuse, if it is not sound."""

    decision: Literal["promote", "keep", "refuse"]
    checks: Sequence[Check]
    champion: float | None = None
    challenger: float | None = None

    @property
    def reason(self) -> str:
        """The failed checks in one line; if all passed, those that only a parameter allowed."""
        failed = [f"{check.name}: {check.found}, needed {check.needed}" for check in self.checks if not check.passed]
        allowed = [f"{check.name}: {check.found}" for check in self.checks if check.allowed]
        return "; ".join(failed) or "; ".join(["every check passed", *allowed])


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Challenger minus champion on the same users, as [mean, low, high], and the number of users."""

    difference: Sequence[float]
    num_users: int
    share: float
    """Share of the challenger's users."""


def judge(
    challenger: Block, champion: Block | None, paired: Paired | None, tables: Sequence[Check], params: GateParams
) -> Verdict:
    """Judges the challenger by the content of both metrics files.

    Args:
        challenger: the challenger's `evaluate.json`.
        champion: the champion's `evaluate.json`; None if there is no champion, so that only the baselines decide.
        paired: the paired comparison; None if it is not possible.
        tables: the checks of the tables.
        params: the parameters of the gate.
    """
    block = _block(challenger, params)
    checks = [*tables, _leak_check(challenger, params), *_baseline_checks(challenger, params)]
    new, old = float(block[params.metric]), None
    if champion is not None:
        before = _block(champion, params)
        old = float(before[params.metric])
        checks += [_metric_check(block, before, paired, params), *_slice_checks(block, before, params)]
    failed = {check.kind for check in checks if not check.passed}
    decision: Literal["promote", "keep", "refuse"] = "refuse" if "sound" in failed else "keep" if failed else "promote"
    return Verdict(decision=decision, checks=checks, champion=old, challenger=new)


def _block(metrics: Block, params: GateParams) -> Block:
    try:
        found: Block = metrics[params.family][params.prompt]
    except KeyError as error:
        known = ", ".join(metrics.get(params.family, {})) or "none"
        raise TableError(
            f"no {params.family} {params.prompt} in the metrics", f"one of: {known}", "set retrain.gate.prompt"
        ) from error
    return found


def _leak_check(challenger: Block, params: GateParams) -> Check:
    """The leakage check: a leak in the deciding family makes a model unsound.

    Leaks of other families are reported only. A metrics file without results per family counts as a whole.
    """
    leak: Block = challenger["leakage"]
    plain = [f"{key} {value}" for key, value in leak.items() if isinstance(value, int | float | str) and value]
    reasons = list(leak.get("reasons", [])) or [
        entry for entry in plain if not entry.startswith(("leaking", "number_rule"))
    ]
    leaks = bool(leak.get(params.family, {}).get("leaks", leak["leaking"]))
    found = f"leaks: {'; '.join(reasons)}" if leaks else "nothing leaks"
    if leak["leaking"] and not leaks:
        found = f"nothing leaks in {params.family} prompts (elsewhere: {'; '.join(reasons)})"
    return Check(name="leakage", passed=not leaks, found=found, needed="nothing leaks", kind="sound")


def _baseline_checks(challenger: Block, params: GateParams) -> list[Check]:
    """Compares the challenger with each of `params.baselines`, by the paired intervals in its metrics file."""
    block, measured = _block(challenger, params), challenger.get("baselines", {}).get(params.family, {})
    checks = []
    for name in params.baselines:
        gap, allowed = block.get("differences", {}).get(name, {}).get(params.metric), name in params.may_lose_to
        if gap is None:
            why = "without intervals (evaluate.bootstrap_resamples)" if name in measured else "without this baseline"
            found, holds = f"not compared, a run {why}", False
        else:
            values = f"{block[params.metric]:.4f}, the baseline {block[params.metric] - gap[0]:.4f}"
            found, holds = f"{comparison(gap)} ({values})", gap[2] >= 0
        excused = allowed and not holds
        checks.append(
            Check(
                name=f"{params.prompt} {params.metric} against {name}", passed=holds or allowed, kind="better",
                found=found + (", which retrain.gate.may_lose_to allows" if excused else ""),
                needed="no loss", allowed=excused, baseline=name,
            )
        )  # fmt: skip
    return checks


def comparison(gap: Sequence[float]) -> str:
    """Formats a paired difference [mean, low, high] in words.

    Example:
        >>> comparison([-0.15, -0.19, -0.1])
        'loses by 0.1500 [0.1000, 0.1900]'
        >>> comparison([0.01, -0.02, 0.04])
        'no clear difference, +0.0100 [-0.0200, +0.0400]'
    """
    mean, low, high = gap
    if high < 0:
        return f"loses by {-mean:.4f} [{-high:.4f}, {-low:.4f}]"
    if low > 0:
        return f"wins by {mean:.4f} [{low:.4f}, {high:.4f}]"
    return f"no clear difference, {mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def _metric_check(block: Block, before: Block, paired: Paired | None, params: GateParams) -> Check:
    name = f"{params.prompt} {params.metric}"
    if paired is not None and paired.share >= params.min_paired_share:
        mean, low, high = paired.difference
        found = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] on {paired.num_users} users of both"
        return Check(name=name, passed=low > 0, found=found, needed="an interval above 0", kind="better")
    gap = float(block[params.metric]) - float(before[params.metric])
    noise = math.hypot(_half(block, params.metric), _half(before, params.metric))
    found = f"{gap:+.4f} with noise {noise:.4f} (other users: two separate intervals)"
    return Check(name=name, passed=gap > noise, found=found, needed="a gain above the noise", kind="better")


def _half(block: Block, metric: str) -> float:
    """Half the width of the 95 % interval; infinite if none was computed, so that no improvement passes."""
    if metric not in block.get("ci95", {}):
        return math.inf
    low, high = block["ci95"][metric]
    return (float(high) - float(low)) / 2


def _slice_checks(block: Block, before: Block, params: GateParams) -> list[Check]:
    checks = []
    for name, parts in before.get("slices", {}).items():
        for label, old in parts.items():
            new = block.get("slices", {}).get(name, {}).get(label)
            metric = params.metric if params.metric in old else "ndcg@10"
            enough = new is not None and min(old["num_users"], new["num_users"]) >= params.min_slice_users
            if not enough or metric not in old or not old[metric]:
                continue
            fall = (old[metric] - new[metric]) / old[metric]
            checks.append(
                Check(
                    name=f"slice {name} {label} {metric}", passed=fall <= params.max_slice_regression,
                    found=f"{old[metric]:.4f} to {new[metric]:.4f}", kind="better",
                    needed=f"a fall of at most {params.max_slice_regression:.0%}",
                )
            )  # fmt: skip
    return checks


def compare(name: str, champion: Path, root: Path, params: GateParams) -> Paired | None:
    """Compares the workspace `root` with the champion's folder in pairs of users; None if either lacks tables."""
    sides = [_ranks(Places(dataset=name, root=place), params) for place in (root, champion)]
    if sides[0] is None or sides[1] is None or not sides[0].height:
        return None
    both = sides[0].join(sides[1], on=("user_key", "item_key"), suffix="_before").sort("user_key", "item_key")
    cutoff = int(params.metric.partition("@")[2])
    values = [by_user(both[column].to_numpy(), [cutoff]) for column in ("rank", "rank_before")]
    share = both.height / sides[0].height
    if not both.height:
        return Paired(difference=(0.0, 0.0, 0.0), num_users=0, share=0.0)
    gap = differences(*values, resamples=params.resamples, seed=0)[params.metric]
    return Paired(difference=gap, num_users=both.height, share=share)


def _ranks(places: Places, params: GateParams) -> pl.DataFrame | None:
    """Columns user_key, item_key (the held-out item) and its rank, 0 if it is not among the predictions."""
    wanted = ("predictions", "sequences/users", "sequences/items", "sequences/interactions")
    if not all((places.table(table) / MANIFEST).is_file() and comparable(places, table) for table in wanted):
        return None
    columns = (("user_id", "prompt_id", "rank", "item_id"), ("user_id", "user_key"), ("item_id", "item_key"),
               ("user_id", "item_id", "split"))  # fmt: skip
    frames = [
        pl.DataFrame(read_table(places.table(table), schema.by_name(table), columns=names))
        for table, names in zip(wanted, columns, strict=True)
    ]
    found = frames[0].filter(pl.col("prompt_id") == params.prompt).drop("prompt_id")
    test = frames[3].filter(pl.col("split") == "test").drop("split")
    test = test.join(found.select("user_id").unique(), on="user_id", how="semi")
    ranked = test.join(found, on=("user_id", "item_id"), how="left").with_columns(pl.col("rank").fill_null(0))
    return ranked.join(frames[1], on="user_id").join(frames[2], on="item_id").select("user_key", "item_key", "rank")


def table_checks(name: str, tables: Sequence[str], root: Path = Path()) -> list[Check]:
    """Validates all `tables` (paths below data/<name>) against their schemas and returns one check.

    The check fails if a table is undeclared, missing or invalid.
    """
    places, faults = Places(dataset=name, root=root), []
    for table in tables:
        try:
            read_table(places.table(table), schema.by_name(table))
        except KeyError:
            faults.append(f"{table} is not declared in features/schema.py")
        except TableError as error:
            faults.append(f"{table}: {error.found}")
    found = "; ".join(faults) or f"{len(tables)} tables as declared"
    return [Check(name="contracts", passed=not faults, found=found[:500], needed="tables as declared", kind="sound")]
