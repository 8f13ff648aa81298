"""Says what was recognised: the files on the command line, the counts there and at the head of the profile."""

import logging

from flows.first_look.counts import Counts
from flows.first_look.folder_survey import Entry

log = logging.getLogger("vip5")
_MOST_ASIDE = 10
_MOST_ALONE = 4  # photos that lie beside the other files


def log_files(entry: Entry) -> None:
    """Logs every file that is used, and those left aside with the reason."""
    log.info("new: format %s", entry.format)
    photos = [one for one in entry.used if one.look.kind == "photos" and one.bytes]
    for one in [one for one in entry.used if one not in photos[_MOST_ALONE:]]:
        log.info("new: %s (%s): %s", one.name, one.look.kind, one.look.summary)
    if len(photos) > _MOST_ALONE:
        log.info("new: %d more photos or archives of photos", len(photos) - _MOST_ALONE)
    for one, reason in entry.aside[:_MOST_ASIDE]:
        log.info("new: left aside: %s (%s): %s", one.name, one.look.summary, reason)
    if len(entry.aside) > _MOST_ASIDE:
        log.info("new: left aside: %d more", len(entry.aside) - _MOST_ASIDE)


def about(entry: Entry, counts: Counts) -> list[str]:
    """The counts in two or three lines."""
    core = counts.core
    rated = "no ratings" if counts.rating_range is None else "ratings {:g} to {:g}".format(*counts.rating_range)
    described = counts.described if entry.values["metadata"] else 0
    beside = [kind for kind in ("photos", "vectors") if entry.values.get(kind)]
    parts = [rated, f"{counts.texts:,} texts", f"{described:,} described items", *(beside or ["no photos"])]
    whole = f"{counts.interactions:,} interactions of {counts.users:,} users with {counts.items:,} items"
    photos = [] if counts.photos is None else [counts.photos.line]
    inside = f"{core.interactions:,} interactions, {core.users:,} users, {core.items:,} items"
    return [
        f"format {entry.format}: {whole}; {', '.join(parts)}",
        f"{core.k}-core: {inside}, {counts.titled:.0%} of them with a title",
        *photos,
    ]
