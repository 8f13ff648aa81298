"""Loads the inputs of an evaluation: histories, catalogue, photos, negatives and manifest notes.

Reads tables of several stages; returns `Inputs` and test corpora. All inputs are held in memory, about 10 bytes per
interaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features import schema
from features.errors import ModelError, TableError
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import read_manifest, read_table
from modeling.baselines.counting import train_counts
from modeling.baselines.run_baselines import Content
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.ragged import Ragged, offsets_of
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.user_histories import UserHistories, known_before_test
from modeling.evaluation.generate_explanations import Features, features_of
from modeling.evaluation.popularity_negatives import popular_candidates
from modeling.evaluation.rank_prompts import Catalogue, Rankings, catalogue_of
from modeling.metrics.slices import Masks, slice_masks
from modeling.models.vip5 import VIP5

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Inputs of an evaluation except models and prompts."""

    interactions: pa.Table
    histories: UserHistories
    catalogue: Catalogue
    photos: PhotoTable
    features: Features
    negatives: Ragged
    """Row u: the fixed test negatives of user u, ascending."""
    popular: Ragged
    """Row u: popularity-sampled candidates of user u, the test item first."""
    content: Content
    users: IntArray | None
    """Users sampled because of `max_users`; None for all."""
    user_numbers: IntArray
    """(U + 1,) user number in prompts by user_id; index 0 is unused."""
    numbering: str
    """Item numbering: random, train_first or p5."""
    given: Mapping[str, Sequence[str]]
    """By explanation prompt, the fields of the target review that it contains: headline, feature, rating."""

    def slices(self, rankings: Rankings) -> Masks:
        """Returns the slice masks for the users of one prompt."""
        return slice_masks(
            rankings.user_ids,
            rankings.targets,
            histories=self.histories,
            counts=train_counts(self.histories, self.catalogue.num_items),
            photo_present=self.photos.present,
        )


def load_inputs(context: Context, tokens: VIP5Tokenizer, *, max_users: int | None) -> Inputs:
    """Reads the tables of `evaluate` except prompts; `max_users` samples users by the seed."""
    interactions = read_table(context.table("sequences/interactions"), schema.INTERACTIONS)
    histories = known_before_test(interactions)
    identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
    explanations = read_table(context.table("explanations"), schema.EXPLANATIONS)
    negatives = _negatives(read_table(context.table("candidates"), schema.CANDIDATES), histories.num_users)
    photos = PhotoTable.load(context.table("images/embeddings"))
    users = None
    if max_users is not None and max_users < histories.num_users:
        sampled = rng(context.seed, "evaluate", "users").choice(histories.num_users, max_users, replace=False)
        users = np.sort(sampled) + 1
    return Inputs(
        interactions=interactions,
        histories=histories,
        catalogue=catalogue_of(identifiers, tokens),
        photos=photos,
        features=features_of(explanations),
        negatives=negatives,
        popular=_popular(histories, users, negatives, identifiers.num_rows, context.seed),
        content=_content(context, photos),
        users=users,
        user_numbers=_user_numbers(read_table(context.table("sequences/users"), schema.USERS, columns=("number",))),
        numbering=str(noted(context, "sequences/items", "numbering")),
        given=noted(context, "prompts/test/explanation", "given"),
    )


def noted(context: Context, table: str, key: str) -> Any:
    """Returns the note `key` in the manifest of `table`.

    Raises:
        TableError: there is no such note, because an older version of the stage wrote the table.
    """
    manifest = read_manifest(context.table(table))
    if key not in manifest["notes"]:
        raise TableError(
            f"no note {key} in {table}",
            f"a table that the current version of {manifest['stage']} wrote",
            f"run `.venv/bin/dvc repro {manifest['stage']}`",
        )
    return manifest["notes"][key]


def _user_numbers(users: pa.Table) -> IntArray:
    return np.concatenate([np.zeros(1, np.int64), users["number"].to_numpy().astype(np.int64)])


def _popular(histories: UserHistories, users: IntArray | None, negatives: Ragged, num_items: int, seed: int) -> Ragged:
    """Samples as many candidates by popularity as the table has uniform ones, for evaluated users who have any."""
    users_with_negatives = np.flatnonzero((negatives.lengths > 0) & (histories.targets > 0)).astype(np.int64)
    users_with_negatives = users_with_negatives if users is None else np.intersect1d(users_with_negatives, users)
    count = int(negatives.lengths.max(initial=0))
    counts = train_counts(histories, num_items)
    sampled = popular_candidates(histories, users_with_negatives, counts, num_negatives=count, seed=seed)
    lengths = np.zeros(histories.num_users + 1, np.int64)
    lengths[users_with_negatives] = (sampled > 0).sum(1)
    return Ragged(sampled[sampled > 0], offsets_of(lengths))


def _content(context: Context, photos: PhotoTable) -> Content:
    items = read_table(context.table("sequences/items"), schema.CATALOGUE, columns=("title",))
    vectors = read_table(context.table("texts"), schema.text_embeddings, columns=("embedding",))["embedding"]
    embeddings = vectors.combine_chunks()
    rows = embeddings.flatten().to_numpy(zero_copy_only=False).reshape(len(embeddings), -1).astype(np.float32)
    return Content(titles=items["title"].to_pylist(), title_vectors=rows, photos=photos)


def _negatives(candidates: pa.Table, num_users: int) -> Ragged:
    rows = candidates.filter(pc.equal(candidates["split"], "test")).combine_chunks()
    lengths = np.zeros(num_users + 1, np.int64)
    lengths[rows["user_id"].to_numpy()] = pc.list_value_length(rows["item_ids"]).to_numpy()
    return Ragged(pc.list_flatten(rows["item_ids"]).to_numpy().astype(np.int64), offsets_of(lengths))


def test_corpus(context: Context, tokens: VIP5Tokenizer, photos: PhotoTable | None) -> PromptDataset:
    """Loads all test prompts; without `photos`, the photo placeholders are removed."""
    return PromptDataset.load([context.table(f"prompts/test/{family}") for family in schema.FAMILIES], tokens, photos)


def check_vision(model: VIP5, inputs: Inputs) -> None:
    """Raises ModelError if the model was trained on image embeddings of another width."""
    if model.visual is None:
        return
    width = model.visual.inner.weight.shape[1]
    if width != inputs.photos.width:
        raise ModelError(
            f"a model trained on image embeddings of width {width}",
            f"width {inputs.photos.width}, as in images/embeddings",
            "run `.venv/bin/dvc repro train`",
        )
