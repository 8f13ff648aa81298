"""How the tables changed since the champion: who came and went, what is rated how, which photos there are.

Enters: the tables of two roots (a champion's folder and the workspace). Leaves: a JSON-able report.
Trade-off: a handful of numbers that a person can read, none of which blocks a run: whether the model got worse is for
the gate to say.
"""

import logging
from typing import Any

import numpy as np
import polars as pl

from features import schema
from features.errors import TableError
from features.stage import Places
from features.tables import MANIFEST, read_table
from features.vectors import read_vectors

log = logging.getLogger("vip5")
_STARS = (1, 2, 3, 4, 5)
_TINY = 1e-4


def drift_between(old: Places, new: Places) -> dict[str, Any]:
    """Every comparison whose tables are on both sides, and a `summary` of one number each.

    `population_stability` is the index PSI = sum (new - old) ln(new / old) over shares: below 0.1 is usually read as
    stable, above 0.25 as another population.
    """
    report: dict[str, Any] = {}
    old_tables = ("sequences/users", "sequences/items", "sequences/interactions", "images/embeddings")
    older = [table for table in old_tables if not comparable(old, table)]
    for key, table, column in (("users", "sequences/users", "user_key"), ("items", "sequences/items", "item_key")):
        if table not in older and _there(new, table):
            report[key] = _membership(_column(old, table, column), _column(new, table, column))
    if "sequences/interactions" not in older and _there(new, "sequences/interactions"):
        report["interactions"] = _counts(old, new)
        report["ratings"] = _ratings(old, new)
    if not {"images/embeddings", "sequences/items"} & set(older) and _there(new, "images/embeddings"):
        report["photos"] = _photos(old, new)
        report["features"] = _features(old, new)
    report["summary"] = _summary(report)
    return report


def comparable(old: Places, table: str) -> bool:
    """Whether a champion has `table`, in today's schema: one that was sealed by an older version cannot be compared."""
    try:
        return _there(old, table) and read_table(old.table(table), schema.by_name(table)) is not None
    except TableError as error:
        log.warning("the champion's %s is left out: %s", table, error.found)
        return False


def _there(places: Places, table: str) -> bool:
    return (places.table(table) / MANIFEST).is_file()


def _column(places: Places, table: str, column: str) -> pl.Series:
    return pl.Series(read_table(places.table(table), schema.by_name(table), columns=(column,))[column])


def _membership(old: pl.Series, new: pl.Series) -> dict[str, int]:
    kept = int(new.is_in(old.implode()).sum())
    return {"old": len(old), "new": len(new), "kept": kept, "came": len(new) - kept, "went": len(old) - kept}


def _counts(old: Places, new: Places) -> dict[str, int]:
    heights = [len(_column(places, "sequences/interactions", "position")) for places in (old, new)]
    return {"old": heights[0], "new": heights[1]}


def _ratings(old: Places, new: Places) -> dict[str, Any] | None:
    """Shares of the stars on both sides; None where the data set has no ratings."""
    shares = []
    for places in (old, new):
        rated = _column(places, "sequences/interactions", "rating").drop_nulls()
        if not len(rated):
            return None
        shares.append([_share(rated.round() == star) for star in _STARS])
    return {"old": shares[0], "new": shares[1], "population_stability": stability(shares[0], shares[1])}


def stability(old: list[float], new: list[float]) -> float:
    """The population stability index of two lists of shares.

    Example:
        >>> stability([0.5, 0.5], [0.5, 0.5])
        0.0
    """
    first, second = np.maximum(old, _TINY), np.maximum(new, _TINY)
    return round(float(((second - first) * np.log(second / first)).sum()), 6)


def _share(holds: pl.Series) -> float:
    return float(holds.sum()) / max(len(holds), 1)


def _photos(old: Places, new: Places) -> dict[str, dict[str, float]]:
    """Share of the catalogue by the state of its photo, on both sides."""
    sides = {}
    for name, places in (("old", old), ("new", new)):
        states = _column(places, "images/embeddings", "status")
        sides[name] = {
            status: round(_share(states == status), 6) for status in schema.PHOTO_STATUSES
        }  # fmt: skip
    return sides


def _features(old: Places, new: Places) -> dict[str, float] | None:
    """How far the photo features moved: of items on both sides (it should be 0), and the whole cloud.

    `cloud_shift` is the distance of the two means over the spread of the old cloud; `same_items_cosine` the mean cosine
    of an item's old and new feature, 1 where photo and encoder are the same.
    """
    before, now = _vectors(old), _vectors(new)
    if before is None or now is None or before[1].shape[1] != now[1].shape[1]:
        return None
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
    if report.get("features"):
        found |= {key: report["features"][key] for key in ("cloud_shift", "same_items_cosine")}
    return found
