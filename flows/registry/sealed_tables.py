"""Checks whether the tables of a champion, which an older version may have sealed, match the current schemas."""

import logging

from features import schema
from features.errors import TableError
from features.runtime.stage import Places
from features.store.tables import MANIFEST, read_table

log = logging.getLogger("vip5")


def is_there(places: Places, table: str) -> bool:
    """Whether `table` is complete, that is, has a manifest."""
    return (places.table(table) / MANIFEST).is_file()


def comparable(old: Places, table: str) -> bool:
    """Whether a champion has `table` in the current schema; logs a warning if the schema is an older one."""
    try:
        return is_there(old, table) and read_table(old.table(table), schema.by_name(table)) is not None
    except TableError as error:
        log.warning("skipping the champion's %s: %s", table, error.found)
        return False
