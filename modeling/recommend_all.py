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
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from features import schema
from features.errors import TableError, VIP5Error
from features.prompts import rendering
from features.prompts.templates import Prompt, load_templates
from features.runtime.stage import Places, configure_logging
from features.store.manifests import MANIFEST, file_digest
from features.store.tables import Provenance, from_rows, read_table, write_table
from modeling.recommend import add_model_arguments, chosen_prompt
from modeling.serving.request import PipelineSettings, RequestUser, load_settings

if TYPE_CHECKING:
    from modeling.data.user_histories import UserHistories

log = logging.getLogger("vip5")
_USER_COLUMNS = ("user_id", "user_key", "name", "number")
_NUMBERED = ("sequences/users", "sequences/items", "sequences/interactions", "identifiers")
_ALL_USERS = RequestUser(label="all users", user_id=0, number=0, name="", history=())


def recommend_all(settings: PipelineSettings, prompt: Prompt, *, top_k: int, batch_size: int) -> pa.Table:
    """Returns the `top_k` best unseen items per user as rows of the table `predictions`."""
    from modeling.data.prompt_dataset import PhotoTable, PromptDataset
    from modeling.decoding.catalogue import catalogue_of
    from modeling.evaluation.rank_prompts import rank_prompt
    from modeling.models.checkpoints import load_vip5, read_manifest

    model, tokens = load_vip5(settings.places)
    identifiers = read_table(settings.places.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
    photos = None if model.visual is None else PhotoTable.load(settings.places.table("images/embeddings"))
    visual = max(1, read_manifest(settings.places, "train")["num_visual_tokens"])
    histories = complete_histories(settings.places)
    corpus = PromptDataset(_rows(settings, prompt, histories, identifiers, rendering.photo(visual)), tokens, photos)
    params = replace(
        settings.evaluate, decoding="constrained", dtype="float32", top_k=top_k, batch_size=batch_size
    )  # fmt: skip
    ranked = rank_prompt(
        model, corpus, np.arange(histories.num_users), catalogue=catalogue_of(identifiers, tokens),
        histories=histories, params=params, label="recommend",
    )  # fmt: skip
    row, column = np.nonzero(ranked.items)
    columns = {
        "user_id": ranked.user_ids[row].astype(np.int32),
        "prompt_id": pa.repeat(prompt.id, len(row)),
        "rank": (column + 1).astype(np.int32),
        "item_id": ranked.items[row, column].astype(np.int32),
        "score": ranked.scores[row, column],
    }
    return pa.table(columns).cast(schema.PREDICTIONS.arrow)


def complete_histories(places: Places) -> "UserHistories":
    """Returns every user's items in time order, test item included; the ranking masks all of them."""
    from modeling.data.ragged import Ragged, offsets_of
    from modeling.data.user_histories import UserHistories

    columns = ("user_id", "item_id")
    rows = read_table(places.table("sequences/interactions"), schema.INTERACTIONS, columns=columns)
    users = rows["user_id"].to_numpy().astype(np.int64)
    lengths = np.bincount(users) if len(users) else np.zeros(1, np.int64)
    known = Ragged(rows["item_id"].to_numpy().astype(np.int64), offsets_of(lengths))
    return UserHistories(known=known, train=known, targets=np.zeros(len(lengths), np.int64))


def _rows(
    settings: PipelineSettings, prompt: Prompt, histories: "UserHistories", identifiers: pa.Table, photo: str
) -> pa.Table:
    """Returns one prompt per user, in the order of the users."""
    texts = dict(zip(identifiers["item_id"].to_pylist(), identifiers["text"].to_pylist(), strict=True))
    users = read_table(settings.places.table("sequences/users"), schema.USERS, columns=_USER_COLUMNS).to_pylist()
    rows = []
    for user in users:
        shown = settings.shown_history(histories.known.row(user["user_id"]).tolist())
        slots = {
            "user_id": str(user["number"]),
            "user_name": rendering.plain(user["name"] or "") or user["user_key"],
            "history": rendering.COMMA.join(rendering.item_with_photo(texts[item], photo) for item in shown),
        }
        rows.append({
            "example_id": user["user_id"] - 1, "split": "test", "family": prompt.family, "prompt_id": prompt.id,
            "variant": "published", "round": 0, "user_id": user["user_id"], "target_item_id": None,
            "image_item_ids": list(shown), "candidate_item_ids": None,
            "source": rendering.render_source(prompt, slots), "target": texts[shown[-1]],
        })  # fmt: skip
    return from_rows(schema.prompts("test", prompt.family), rows)


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
        predictions = recommend_all(settings, prompt, top_k=arguments.top_k, batch_size=arguments.batch_size)
        provenance = Provenance(
            stage="recommend_all", params={"prompt": prompt.id, "top_k": arguments.top_k},
            inputs={name: settings.places.table(name) for name in ("sequences/interactions", "identifiers")},
        )  # fmt: skip
        rows = write_table(folder, schema.PREDICTIONS, predictions, provenance)
    except VIP5Error as error:
        log.error("recommend_all: %s", error)
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
