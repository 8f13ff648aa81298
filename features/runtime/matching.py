"""Counts how many photos, vectors or metadata rows belong to an item, and stops a stage if hardly any does.

One rule for all of them: what was used, what belongs to no item, which items have none, with one name of each kind, so
that a difference in the names can be seen.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from features.errors import InputError

log = logging.getLogger("vip5")
MIN_MATCH_SHARE = 0.01  # fewer than one in a hundred of either side: names or files of another dataset
_MOST = 0.5


@dataclass(frozen=True, kw_only=True)
class Matching:
    """How a collection of named things (photos, vectors, metadata rows) fits the items of the catalogue.

    `unknown` counts those of `unmatched` that belong to no item of the dump at all, in the catalogue or not; None if
    the dump does not list its items. `blank` counts vectors of an item that are all zeros.

    Example:
        >>> found = Matching(
        ...     kind="photos", total=40, used=2, unmatched=38, unmatched_name="IMG_1.jpg", unknown=None,
        ...     items=40, without=38, without_key="B01",
        ... )
        >>> found.line.split("; ")[:2]
        ['photos: 2 of 40 used', '38 belong to no item of the catalogue (one is IMG_1.jpg)']
        >>> found.share
        0.05
    """

    kind: str
    total: int
    used: int
    unmatched: int
    unmatched_name: str | None
    unknown: int | None
    items: int
    without: int
    without_key: str | None
    blank: int = 0

    @property
    def line(self) -> str:
        """All counts in one line, with one unmatched name and one key sought."""
        elsewhere = 0 if self.unknown is None else self.unmatched - self.unknown
        of = "item of the catalogue" if elsewhere or (self.unknown is None and self.unmatched) else "item"
        of += f", {elsewhere:,} of them to others of the dump" if elsewhere else ""
        unmatched = f"{self.unmatched:,} belong to no {of}{_one(self.unmatched_name)}"
        without = f"{self.without:,} of {self.items:,} items have none{_one(self.without_key)}"
        blank = f", {self.blank:,} are all zeros" if self.blank else ""
        return f"{self.kind}: {self.used:,} of {self.total:,} used{blank}; {unmatched}; {without}"

    @property
    def share(self) -> float:
        """The larger of the share of things used and the share of items that have one, in [0, 1].

        Photos of a whole category are mostly of items outside a small catalogue, and a few photos leave most items
        without: either is normal, both at once are not.
        """
        with_one = self.items - self.without
        return max(self.used / max(self.total, 1), with_one / max(self.items, 1) if self.total else 0.0)

    @property
    def mostly_unknown(self) -> bool:
        """Whether most things belong to no item of the dump; judged by both sides where the dump lists no items."""
        if self.unknown is not None:
            return self.unknown > _MOST * self.total
        return self.unmatched > _MOST * self.total and self.without > _MOST * self.items

    def notes(self) -> dict[str, Any]:
        """The counts and the line for a manifest."""
        return asdict(self) | {"line": self.line}

    def check(self, min_share: float, *, parameter: str, action: str) -> None:
        """Logs the line, as a warning if most things belong to no item.

        Args:
            min_share: Smallest `share` that is accepted.
            parameter: Name of `min_share` in the parameters, such as images.min_match_share.
            action: What to do if hardly anything matches.

        Raises:
            InputError: The share is below `min_share`.
        """
        if self.share < min_share:
            raise InputError(
                self.line, f"{self.kind} of the catalogue's items ({parameter} = {min_share:g})",
                f"{action}; if this is right, set {parameter} to 0",
            )  # fmt: skip
        if self.mostly_unknown:
            log.warning("%s; check that they are of this dataset", self.line)
        else:
            log.info("%s", self.line)


def match_names(
    kind: str,
    names: Sequence[str],
    keys: Sequence[str],
    *,
    used: int,
    known: Collection[str] | None = None,
    blank: int = 0,
) -> Matching:
    """Matches things that are named by item key.

    Args:
        kind: What they are.
        names: Their names, each an item key of any item.
        keys: Item keys of the catalogue.
        used: Number of things that were used.
        known: Item keys of the dump, or None if it does not list them.
        blank: Number of things of an item that are empty.
    """
    wanted, there = set(keys), set(names)
    unmatched = [name for name in names if name not in wanted]
    without = [key for key in keys if key not in there]
    unknown = unmatched if known is None else [name for name in unmatched if name not in known]
    strange = next(iter(unknown or unmatched), None)
    return Matching(
        kind=kind, total=len(names), used=used, unmatched=len(unmatched), unmatched_name=strange,
        unknown=None if known is None else len(unknown),
        items=len(keys), without=len(without), without_key=next(iter(without), None), blank=blank,
    )  # fmt: skip


def _one(name: str | None) -> str:
    return "" if name is None else f" (one is {name[:80]})"
