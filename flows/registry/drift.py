"""Data drift between the champion's tables and the workspace: users, items, ratings, photos and photo features.

Reads the tables of two roots (a champion's folder and the workspace) and returns a JSON-serialisable report. Drift
never blocks a run; the quality gate decides whether the model is promoted.

Verdicts, by the thresholds in `LIMITS`:
- ratings and photo states: the population stability index PSI = sum (new - old) ln(new / old) over shares, with the
  usual thresholds (N. Siddiqi, Credit Risk Scorecards, Wiley 2006): below 0.1 stable, below 0.25 moved, else another
  population.
- users and items: the larger of two shares, new among the current ones and gone among the champion's, with the same
  thresholds (a convention of this project).
- photo features: the distance of the two mean features divided by the spread of the champion's features, a
  standardised mean difference (J. Cohen, Statistical Power Analysis, 1988): up to 0.2 small, from 0.5 medium.
- photo features of the same items: one minus the mean cosine; 0 if photos and encoder are unchanged, from 0.01 some
  photos were replaced, from 0.1 the encoder was (a convention of this project).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from features import schema
from features.runtime.stage import Places
from features.store.embeddings import read_vectors
from features.store.tables import read_table
from flows.registry.sealed_tables import comparable, is_there

_STARS = (1, 2, 3, 4, 5)
_TINY = 1e-4
VERDICTS = ("stable", "moved", "another population")
LIMITS = {
    "users": (0.1, 0.25), "items": (0.1, 0.25), "ratings": (0.1, 0.25), "photo states": (0.1, 0.25),
    "photo features": (0.2, 0.5), "photo features of the same items": (0.01, 0.1),
}  # fmt: skip
"""Thresholds of each comparison: values from the first on are "moved", from the second on "another population"."""


def drift_between(old: Places, new: Places) -> dict[str, Any]:
    """Compares every table that exists on both sides.

    Returns:
        the comparisons; `judged`, one row per comparison; `verdict`, the worst one; `summary`, the verdict and one
        number per comparison; and `not_compared`, the tables that the champion lacks or has in an older schema.
    """
    report: dict[str, Any] = {}
    old_tables = ("sequences/users", "sequences/items", "sequences/interactions", "images/embeddings")
    older = [table for table in old_tables if not comparable(old, table)]
    for key, table, column in (("users", "sequences/users", "user_key"), ("items", "sequences/items", "item_key")):
        if table not in older and is_there(new, table):
            report[key] = _membership(_column(old, table, column), _column(new, table, column))
    if "sequences/interactions" not in older and is_there(new, "sequences/interactions"):
        report["interactions"] = _counts(old, new)
        report["ratings"] = _ratings(old, new)
    if not {"images/embeddings", "sequences/items"} & set(older) and is_there(new, "images/embeddings"):
        report["photos"] = _photos(old, new)
        report["features"] = _features(old, new)
    report["not_compared"] = older
    report["judged"] = judged(report)
    found = {row["verdict"] for row in report["judged"]}
    report["verdict"] = max(found, key=VERDICTS.index, default="not compared")
    report["summary"] = {"verdict": report["verdict"]} | _summary(report)
    return report


def judged(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row per comparison of a report: `what`, `found` in words, `value` (see `LIMITS`) and `verdict`."""
    rows: list[tuple[str, float | None, str]] = []
    for what in ("users", "items"):
        if what in report:
            one = report[what]
            value = max(one["came"] / max(one["new"], 1), one["went"] / max(one["old"], 1))
            rows.append((what, value, f"{one['came']:,} came, {one['went']:,} went, {one['new']:,} now"))
    if report.get("ratings"):
        value = report["ratings"]["population_stability"]
        rows.append(("ratings", value, f"population stability index {value:.4f}"))
    if "photos" in report:
        old, new = (list(report["photos"][side].values()) for side in ("old", "new"))
        shares = (
            f"{report['photos']['new']['ok']:.1%} of the items with a photo, {report['photos']['old']['ok']:.1%} before"
        )
        value = stability(old, new)
        rows.append(("photo states", value, f"population stability index {value:.4f}; {shares}"))
    rows += _judged_features(report.get("features") or {})
    return [
        {"what": what, "found": found, "value": value and round(value, 6), "verdict": verdict(what, value)}
        for what, value, found in rows
    ]


def _judged_features(features: Mapping[str, Any]) -> list[tuple[str, float | None, str]]:
    if "widths" in features:
        old, new = features["widths"]
        return [("photo features", None, f"{new} numbers for a photo, {old} before: another encoder")]
    if not features:
        return []
    shift, cosine, num_same = (features[key] for key in ("cloud_shift", "same_items_cosine", "same_items"))
    rows: list[tuple[str, float | None, str]] = [
        ("photo features", shift, f"the mean moved by {shift:.4f} of the spread")
    ]
    if num_same:
        found = f"mean cosine {cosine:.4f} of {num_same:,} items"
        rows.append(("photo features of the same items", 1 - cosine, found))
    return rows


def verdict(what: str, value: float | None) -> str:
    """The verdict on one value; None stands for data that cannot be compared, which is another population.

    Example:
        >>> verdict("ratings", 0.05), verdict("ratings", 0.1), verdict("ratings", 0.3)
        ('stable', 'moved', 'another population')
    """
    return VERDICTS[-1 if value is None else sum(value >= limit for limit in LIMITS[what])]


def _column(places: Places, table: str, column: str) -> pl.Series:
    return pl.Series(read_table(places.table(table), schema.by_name(table), columns=(column,))[column])


def _membership(old: pl.Series, new: pl.Series) -> dict[str, int]:
    kept = int(new.is_in(old.implode()).sum())
    return {"old": len(old), "new": len(new), "kept": kept, "came": len(new) - kept, "went": len(old) - kept}


def _counts(old: Places, new: Places) -> dict[str, int]:
    heights = [len(_column(places, "sequences/interactions", "position")) for places in (old, new)]
    return {"old": heights[0], "new": heights[1]}


def _ratings(old: Places, new: Places) -> dict[str, Any] | None:
    """Shares of the star ratings on both sides; None if the dataset has no ratings."""
    shares = []
    for places in (old, new):
        rated = _column(places, "sequences/interactions", "rating").drop_nulls()
        if not len(rated):
            return None
        shares.append([_share(rated.round() == star) for star in _STARS])
    return {"old": shares[0], "new": shares[1], "population_stability": stability(shares[0], shares[1])}


def stability(old: list[float], new: list[float]) -> float:
    """Computes the population stability index of two lists of shares.

    Example:
        >>> stability([0.5, 0.5], [0.5, 0.5])
        0.0
    """
    first, second = np.maximum(old, _TINY), np.maximum(new, _TINY)
    return round(float(((second - first) * np.log(second / first)).sum()), 6)


def _share(holds: pl.Series) -> float:
    return float(holds.sum()) / max(len(holds), 1)


def _photos(old: Places, new: Places) -> dict[str, dict[str, float]]:
    """Shares of the catalogue by photo status, on both sides."""
    sides = {}
    for name, places in (("old", old), ("new", new)):
        states = _column(places, "images/embeddings", "status")
        sides[name] = {
            status: round(_share(states == status), 6) for status in schema.PHOTO_STATUSES
        }  # fmt: skip
    return sides


def _features(old: Places, new: Places) -> dict[str, Any] | None:
    """Measures the shift of the photo features, over all items and over the items on both sides.

    Returns:
        `cloud_shift`, the distance of the two means divided by the spread of the old features, and
        `same_items_cosine`, the mean cosine of an item's old and new feature, 1 if photo and encoder are unchanged;
        or `widths`, both widths, if they differ; or None if a side has no photos.
    """
    before, now = _vectors(old), _vectors(new)
    if before is None or now is None:
        return None
    if before[1].shape[1] != now[1].shape[1]:
        return {"widths": [before[1].shape[1], now[1].shape[1]]}
    (old_keys, old_vectors), (new_keys, new_vectors) = before, now
    spread = float(np.sqrt(((old_vectors - old_vectors.mean(0)) ** 2).sum(1).mean())) or 1.0
    shift = float(np.linalg.norm(new_vectors.mean(0) - old_vectors.mean(0)))
    places = {key: row for row, key in enumerate(old_keys)}
    pairs = [(places[key], row) for row, key in enumerate(new_keys) if key in places]
    cosine = 1.0
    if pairs:
        rows = np.array(pairs)
        one, other = old_vectors[rows[:, 0]], new_vectors[rows[:, 1]]
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosine = float(((one * other).sum(1) / np.maximum(norms, 1e-12)).mean())
    return {"cloud_shift": round(shift / spread, 6), "same_items_cosine": round(cosine, 6), "same_items": len(pairs)}


def _vectors(places: Places) -> tuple[list[str], np.ndarray] | None:
    ids, vectors = read_vectors(places.table("images/embeddings"), schema.embeddings)
    good = _column(places, "images/embeddings", "status").to_numpy() == "ok"
    if not good.any():
        return None
    columns = ("item_id", "item_key")
    rows = read_table(places.table("sequences/items"), schema.CATALOGUE, columns=columns).to_pylist()
    keys = {row["item_id"]: row["item_key"] for row in rows}
    return [keys[int(number)] for number in ids[good]], vectors[good].astype(np.float64)


def _summary(report: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key in ("users", "items"):
        if key in report:
            found |= {f"{key}_came": report[key]["came"], f"{key}_went": report[key]["went"]}
    if report.get("ratings"):
        found["ratings_population_stability"] = report["ratings"]["population_stability"]
    if "photos" in report:
        found["photo_coverage_change"] = round(report["photos"]["new"]["ok"] - report["photos"]["old"]["ok"], 6)
    features = report.get("features") or {}
    found |= {key: features[key] for key in ("cloud_shift", "same_items_cosine") if key in features}
    return found
