"""`python -m modeling.recommend_all`: recommends items to every user from the complete histories, as one table.

Reads the champion of a dataset (or its last trained model) and the tables it was trained on; writes
`data/<dataset>/recommendations/` with the columns of `predictions`. Histories include the test item, so this table is
for production use; evaluate with `predictions` instead.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from features import schema
from features.errors import TableError, VIP5Error
from features.prompts.templates import load_templates
from features.runtime.remedies import for_profile
from features.runtime.stage import Places, configure_logging
from features.store.manifests import MANIFEST, file_digest
from features.store.tables import Provenance, write_table
from modeling.recommend import add_model_arguments, chosen_prompt
from modeling.serving.request import PipelineSettings, RequestUser, load_settings

log = logging.getLogger("vip5")
_NUMBERED = ("sequences/users", "sequences/items", "sequences/interactions", "identifiers")
_ALL_USERS = RequestUser(label="all users", user_id=0, number=0, name="", history=())


def output_folder(settings: PipelineSettings, out: Path | None) -> Path:
    """Returns the output folder: `out`, otherwise `data/<dataset>/recommendations`.

    Raises:
        TableError: `out` is not given, and the champion's user and item ids differ from those of the workspace.
    """
    if out is not None:
        return out
    if settings.champion is None:
        return settings.places.table("recommendations")
    here = Places(dataset=settings.places.dataset)
    for name in _NUMBERED:
        ours, theirs = here.table(name) / MANIFEST, settings.places.table(name) / MANIFEST
        if not ours.is_file() or file_digest(ours) != file_digest(theirs):
            raise TableError(
                f"a champion with other {name} than {here.table(name)}", "the same numbers of users and items",
                f"read {settings.places.table('recommendations')}, or give --out FOLDER, or --challenger",
            )  # fmt: skip
    return here.table("recommendations")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the top items of every user of the dataset."""
    arguments = _parser().parse_args(argv)
    configure_logging()
    from modeling.serving.recommender import recommend_to_all

    root: Path | None = arguments.root
    try:
        challenger = arguments.challenger or root is not None
        settings = load_settings(arguments.params, arguments.dataset, challenger=challenger)
        if root is not None:
            settings = replace(settings, places=Places(dataset=settings.places.dataset, root=root))
        else:
            log.info("recommend_all: model: %s", settings.model)
        folder = output_folder(settings, arguments.out)
        prompt = chosen_prompt(load_templates(settings.templates), _ALL_USERS, arguments.prompt)
        predictions = recommend_to_all(settings, prompt, top_k=arguments.top_k, batch_size=arguments.batch_size)
        provenance = Provenance(
            stage="recommend_all", params={"prompt": prompt.id, "top_k": arguments.top_k},
            inputs={name: settings.places.table(name) for name in ("sequences/interactions", "identifiers")},
        )  # fmt: skip
        rows = write_table(folder, schema.PREDICTIONS, predictions, provenance)
    except VIP5Error as error:
        log.error("recommend_all: %s", for_profile(error, arguments.params, arguments.dataset))
        return error.exit_code
    log.info("recommend_all: %s rows%s", f"{rows:,}", "" if root else f" in {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m modeling.recommend_all", description=main.__doc__)
    add_model_arguments(parser)
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="folder with the models/ and data/ to use instead of the champion; the table is written below it",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder of the table (default: data/<dataset>/recommendations)"
    )
    parser.add_argument("--prompt", metavar="ID", help="id of a sequential prompt (default: A-3)")
    parser.add_argument("--top-k", type=int, default=20, metavar="N", help="items per user (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="users per batch (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
