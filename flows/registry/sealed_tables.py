"""Whether the tables of a sealed champion can still be read: an older version may have sealed them.

Enters: a champion's folder and the name of a table. Leaves: yes, or no with one warning.
"""

import logging

from features import schema
from features.errors import TableError
from features.runtime.stage import Places
from features.store.tables import MANIFEST, read_table

log = logging.getLogger("vip5")


def is_there(places: Places, table: str) -> bool:
    """Whether `table` was written to its end."""
    return (places.table(table) / MANIFEST).is_file()


def comparable(old: Places, table: str) -> bool:
    """Whether a champion has `table`, in today's schema: one that was sealed by an older version cannot be compared."""
    try:
        return is_there(old, table) and read_table(old.table(table), schema.by_name(table)) is not None
    except TableError as error:
        log.warning("the champion's %s is left out: %s", table, error.found)
        return False
