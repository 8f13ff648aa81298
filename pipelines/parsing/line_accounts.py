"""Accounts of `records`: every line of a dump is read once and kept or rejected, and every counted row is on disk.

Reads the counts of the units of work. Returns one account per file, as the manifests store it.
"""

import logging
from collections.abc import Mapping, Sequence

from features.errors import TableError
from pipelines.parsing.lenient_values import TAKEN

log = logging.getLogger("vip5")
Account = dict[str, int]


def check_counts(counts: Mapping[str, int], sources: Sequence[str], readers_per_file: int) -> None:
    """Raises TableError unless each line of each file was read once and either kept or rejected."""
    for name in sources:
        seen, lines, kept, rejected = (
            counts.get(f"{name}:{what}", 0) for what in ("seen", "lines", "kept", "rejected")
        )
        if seen != lines * readers_per_file or lines != kept + rejected:
            raise TableError(
                f"{lines} lines of {name} read by {readers_per_file} readers that saw {seen}, {kept} kept, "
                f"{rejected} rejected",
                "lines in = kept + rejected", "use another beam.runner: this one lost or repeated work",
            )  # fmt: skip


def accounts_of(
    counts: Mapping[str, int], sources: Sequence[str], duplicate_items: Mapping[str, int]
) -> dict[str, Account]:
    """The account of each file: `lines`, `kept`, `rejected`, `rows`, and one count for each reason and leniency.

    Those are named `rejected:<reason>` and `taken:<name>`, by the names of `lenient_values.TAKEN`.

    Args:
        counts: Sums of the units' counts, named `<file>:<count>`.
        sources: Names of the files.
        duplicate_items: Number of lines per file that were moved from the items to the rejects.
    """
    accounts: dict[str, Account] = {}
    for source in sources:
        prefix = f"{source}:"
        account = {name.removeprefix(prefix): n for name, n in sorted(counts.items()) if name.startswith(prefix)}
        account.pop("seen", None)
        account = {"lines": 0, "kept": 0, "rejected": 0, "rows": 0} | account
        moved = duplicate_items.get(source, 0)
        if moved:
            account |= {
                "kept": account["kept"] - moved,
                "rows": account["rows"] - moved,
                "rejected": account["rejected"] + moved,
                "rejected:duplicate_item": moved,
            }
        accounts[source] = account
    return accounts


def check_rows(staged: Mapping[str, int], accounts: Mapping[str, Account], metadata: Sequence[str]) -> None:
    """Raises TableError unless the staged tables have the number of rows that the units counted.

    Args:
        staged: Rows on disk of `reviews`, `items` and `rejects`.
        accounts: Result of `accounts_of`.
        metadata: Names of the metadata files; all others hold reviews.
    """
    expected = dict.fromkeys(staged, 0)
    for source, account in accounts.items():
        expected["items" if source in metadata else "reviews"] += account["rows"]
        expected["rejects"] += account["rejected"]
    for name, rows in expected.items():
        if staged[name] != rows:
            raise TableError(
                f"{staged[name]} rows of records/{name}, {rows} counted",
                "equal numbers",
                "use another beam.runner: this one lost or repeated work",
            )


def log_accounts(accounts: Mapping[str, Account]) -> None:
    """Logs a line per file, and another one for the values that were taken leniently."""
    for source, account in accounts.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in counted(account, "rejected"))
        log.info(
            "records: %s: %s lines, %s kept, %s rejected%s",
            source, account["lines"], account["kept"], account["rejected"], f" ({reasons})" if reasons else "",
        )  # fmt: skip
        if taken := counted(account, "taken"):
            log.info("records: %s: %s", source, "; ".join(f"{count} {TAKEN.get(name, name)}" for name, count in taken))


def counted(account: Account, what: str) -> list[tuple[str, int]]:
    """The counts `<what>:<name>` of an account as (name, count)."""
    prefix = f"{what}:"
    return [(name.removeprefix(prefix), count) for name, count in account.items() if name.startswith(prefix)]
