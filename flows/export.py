"""`python -m flows.export NAME --to recbole|hf|csv`: writes the tables of a dataset in the layout of others.

Reads `data/NAME/sequences` and `data/NAME/records/items`; writes a folder for RecBole, for Hugging Face's `datasets`,
or of CSV files. Users and items have the dump's own keys; the split is that of the pipeline.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import ParamsError, TableError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.faults import environment_faults
from features.runtime.names import checked_name
from features.runtime.params import load_params, nearest
from features.runtime.profiles import known_datasets
from features.runtime.stage import Places, configure_logging
from features.store.manifests import MANIFEST

log = logging.getLogger("vip5")
LAYOUTS = ("recbole", "hf", "csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Exports one dataset and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.export",
        description="Write interactions, items and users of a dataset for RecBole, Hugging Face datasets or as CSV.",
        epilog="Example: .venv/bin/python -m flows.export sample --to recbole. Exit codes: 0 done; 2 no such dataset; "
        "3 the folder is not empty or not writable; 4 the tables are missing or stale.",
    )
    parser.add_argument("name", metavar="NAME", help="a dataset whose stage `sequences` has run")
    parser.add_argument("--to", required=True, choices=LAYOUTS, help="layout: RecBole's atomic files, a folder that "
                        "datasets.load_dataset reads, or CSV files")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder (default: work/export/NAME-LAYOUT)")
    parser.add_argument("--force", action="store_true", help="write over files of the same names in FOLDER")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        with environment_faults():
            folder, lines = export(arguments.name, arguments.to, arguments.out, force=arguments.force)
    except VIP5Error as error:
        log.error("export: %s", error)
        return error.exit_code
    for line in lines:
        log.info("export: %s", line)
    log.info("export: %s in %s", arguments.name, folder)
    return 0


def export(
    name: str, layout: str, out: Path | None = None, *, force: bool = False, root: Path = Path()
) -> tuple[Path, list[str]]:
    """Writes one dataset; returns the folder and a line for each file or table.

    Raises:
        ParamsError: No such dataset.
        TableError: The tables are missing, half-written or stale.
        InputError: The folder is not empty and `force` is False.
    """
    check_name(name, root)
    places = Places(dataset=name, root=root)
    check_ran(places)
    folder = out or root / "work" / "export" / f"{name}-{layout}"
    from flows.exporting import csv_files, hub_folder, new_folder, recbole_files
    from flows.exporting.prepared_tables import prepared

    new_folder.check(folder, force=force)
    tables = prepared(places)
    write = {"recbole": recbole_files.write, "hf": hub_folder.write, "csv": csv_files.write}[layout]
    return folder, new_folder.fill(folder, lambda staging: write(tables, staging))


def check_name(name: str, root: Path) -> None:
    """Raises ParamsError unless params.yaml or a profile has a dataset of this name."""
    checked_name(name, "dataset")
    known = known_datasets(root)
    if name not in known:
        raise ParamsError(f"dataset {name!r}", nearest(name, sorted(known)), "name a dataset of params.yaml")


def check_ran(places: Places) -> None:
    """Raises TableError with the command to run unless the stage `sequences` has written its tables."""
    if (places.table("sequences/interactions") / MANIFEST).is_file():
        return
    name = places.dataset
    selected = load_params(places.root / "params.yaml").get("dataset") == name
    command = ".venv/bin/dvc repro sequences" if selected else f"make run PROFILE={name}"
    raise TableError(
        f"no tables of {name} (data/{name}/sequences)", "a dataset whose stage sequences has run", f"run `{command}`"
    )


if __name__ == "__main__":
    sys.exit(exit_code_of("export", main))
