"""`python -m flows.new NAME --from FOLDER`: a folder of files to a dataset that `make run PROFILE=NAME` trains on.

Looks at the files, says what they are, counts them, writes `profiles/NAME.yaml` with the entry of `datasets` and sizes
that fit, and copies the files to `data/raw/NAME/`. The tracked `params.yaml` is not modified.

Trade-off: it decides everything and explains each decision in the profile, instead of asking; the profile can be
edited, and a wrong recognition corrected there.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import ParamsError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.names import checked_name
from features.runtime.params import build, load_yaml
from features.runtime.profile_names import profile_names
from features.runtime.stage import configure_logging

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Makes one dataset and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.new",
        description="Recognise the files of a folder, write profiles/NAME.yaml and bring the files in.",
        epilog="Example: .venv/bin/python -m flows.new home --from ../downloads/home; then make run PROFILE=home. "
        "The layouts that it recognises: docs/guides/own-data.md.",
    )
    parser.add_argument("name", metavar="NAME", help="the new dataset's name: letters, digits, _ and -")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER", required=True, help="folder that holds the files"
    )
    parser.add_argument(
        "--photos", metavar="ENTRY", help="the photo folder or archive in FOLDER, if it must not be chosen"
    )
    parser.add_argument("--force", action="store_true", help="overwrite profiles/NAME.yaml")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        check_name(arguments.name, force=arguments.force)
        return _make(arguments.name, arguments.source, arguments.photos)
    except VIP5Error as error:
        log.error("new: %s", error)
        return error.exit_code


def check_name(name: str, *, force: bool, root: Path = Path()) -> None:
    """Raises ParamsError for a name that is taken or that a shell or a path could misread."""
    checked_name(name, "dataset")
    in_profiles = name in profile_names(root)
    known = load_yaml(root / "params.yaml")
    if name in {**known["datasets"], **(known.get("tokenizers") or {})}:
        raise ParamsError(f"the name {name}, which params.yaml has already", "a new name", f"use my_{name}")
    if in_profiles and not force:
        raise ParamsError(f"profiles/{name}.yaml, which exists", "a new name", "choose another, or add --force")


def _make(name: str, folder: Path, photos: str | None, root: Path = Path()) -> int:
    from features.runtime.datasets import Dataset
    from features.runtime.matching import MIN_MATCH_SHARE
    from features.vision import dataset_photos
    from flows.download import ingest_steps
    from flows.first_look import counts, folder_survey, profile_file, report, sizes

    entry = folder_survey.entry_of(folder, folder_survey.survey(folder), photos)
    report.log_files(entry)
    build(Dataset, entry.values, where=f"datasets.{name}")
    found = counts.count(name, entry.values, folder, root)
    if span := sizes.rating_range(found):
        entry.values["rating_range"] = span
    if found.photos is not None and found.photos.share < MIN_MATCH_SHARE:
        folder_survey.without_photos(entry)
        log.warning("new: no photos are used: %s; %s", found.photos.line, dataset_photos.NAMES_ACTION)
    if entry.values["metadata"] and found.metadata.share < MIN_MATCH_SHARE:
        folder_survey.without_items(entry)
        log.warning("new: no metadata is used: %s", found.metadata.line)
    about = report.about(entry, found)
    for line in about:
        log.info("new: %s", line)
    if entry.values.get("photos") and found.photos is not None and found.photos.mostly_unknown:
        log.warning("new: most photos belong to no item; check that they are of this dataset")
    text = profile_file.text_of(name, about, entry.values, sizes.choices(name, entry.values, found))
    changed, entries = ingest_steps.ingest(name, folder, {"datasets": {name: entry.values}, "tokenizers": {}})
    log.info("new: %s", ingest_steps.summary_line(name, changed, entries))
    path = root / "profiles" / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")  # last, so that a profile stands for files that are there
    log.info("new: %s holds every decision with its reason", path)
    log.info("new: next: make run PROFILE=%s", name)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of("new", main))
