"""Loads the inputs of an evaluation: models with their test prompts, histories, catalogue, photos, negatives.

Reads models and tables of several stages; returns `EvaluatedModel`s and `Inputs`. All tables are held in memory, about
10 bytes per interaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features import schema
from features.errors import ModelError, ParamsError, TableError
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import read_manifest, read_table
from modeling.baselines.counting import train_counts
from modeling.baselines.run_baselines import Content
from modeling.baselines.sentences import TrainSentences
from modeling.config.evaluate import Params
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.ragged import Ragged, offsets_of
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.user_histories import UserHistories, known_before_test
from modeling.decoding.catalogue import Catalogue, catalogue_of
from modeling.evaluation.generate_explanations import Features, features_of
from modeling.evaluation.popularity_negatives import popular_candidates
from modeling.metrics.slices import Masks, slice_masks
from modeling.models.checkpoints import load_backbone_only, load_vip5
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import device_of
from modeling.runtime.malloc import tune_malloc

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Inputs of an evaluation except models and prompts."""

    interactions: pa.Table
    histories: UserHistories
    catalogue: Catalogue
    photos: PhotoTable
    features: Features
    train_sentences: TrainSentences
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

    def slices(self, user_ids: IntArray, targets: IntArray) -> Masks:
        """Returns the slice masks for the users (N,) of one prompt and their test items (N,)."""
        return slice_masks(
            user_ids,
            targets,
            histories=self.histories,
            counts=train_counts(self.histories, self.catalogue.num_items),
            photo_present=self.photos.present,
        )


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """A model, its test prompts and the keys of the prompts that it is evaluated on."""

    name: str
    """vip5, without_photos or backbone."""
    model: VIP5
    dataset: PromptDataset
    prompts: tuple[str, ...]
    """Ids or keys; empty for all."""
    explains: bool
    """Whether explanations are generated too."""


def load(params: Params, context: Context) -> tuple[list[EvaluatedModel], Inputs]:
    """Loads everything that an evaluation reads: VIP5 and its ablations, VIP5 first, and all tables."""
    tune_malloc()
    photos = PhotoTable.load(context.table("images/embeddings"))
    models = load_models(params, context, photos)
    inputs = load_inputs(context, models[0].dataset.tokens, photos, max_users=params.max_users)
    check_candidates(models[0], inputs)
    if params.paper_metrics and not all(text.isdecimal() for text in inputs.catalogue.texts):
        raise ParamsError(
            f"evaluate.paper_metrics with identifiers such as {inputs.catalogue.texts[0]!r}",
            "identifiers that are numbers",
            "set identifiers.scheme to number, or evaluate.paper_metrics to false",
        )
    return models, inputs


def load_inputs(context: Context, tokens: VIP5Tokenizer, photos: PhotoTable, *, max_users: int | None) -> Inputs:
    """Reads the tables of `evaluate` except prompts; `max_users` samples users by the seed."""
    interactions = read_table(context.table("sequences/interactions"), schema.INTERACTIONS)
    histories = known_before_test(interactions)
    identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
    explanations = read_table(context.table("explanations"), schema.EXPLANATIONS)
    negatives = _negatives(read_table(context.table("candidates"), schema.CANDIDATES), histories.num_users)
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
        train_sentences=TrainSentences.of(explanations),
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


def load_models(params: Params, context: Context, photos: PhotoTable) -> list[EvaluatedModel]:
    """Loads VIP5 and its ablations: VIP5 without photos, if it reads photos, and the text-only backbone.

    Raises:
        ModelError: VIP5 was trained on image embeddings of another width, or on another dataset.
        ParamsError: no ablation prompt is evaluated.
    """
    device, ablations = device_of(params), select_ablations(params.ablation_prompts, params.prompts)
    model, tokens = load_vip5(context, device=device)
    _check_vision(model, photos)
    dataset = load_test_prompts(context, tokens, None if model.visual is None else photos)
    models = [EvaluatedModel(name="vip5", model=model, dataset=dataset, prompts=params.prompts, explains=True)]
    if model.visual is not None:
        blind = dataset.with_photos(photos.withheld())
        models.append(
            EvaluatedModel(name="without_photos", model=model, dataset=blind, prompts=ablations, explains=False)
        )
    backbone, tokens = load_backbone_only(context, device=device)
    text_only = load_test_prompts(context, tokens, None)
    return [
        *models,
        EvaluatedModel(name="backbone", model=backbone, dataset=text_only, prompts=ablations, explains=True),
    ]


def load_test_prompts(context: Context, tokens: VIP5Tokenizer, photos: PhotoTable | None) -> PromptDataset:
    """Loads all test prompts; without `photos`, the photo placeholders are removed."""
    return PromptDataset.load([context.table(f"prompts/test/{family}") for family in schema.FAMILIES], tokens, photos)


def select_ablations(ablations: Sequence[str], prompts: Sequence[str]) -> tuple[str, ...]:
    """Returns the ablation prompts that are also evaluated; an empty list means all prompts.

    Raises:
        ParamsError: no prompt is left to compare.
    """
    if not ablations or not prompts:
        return tuple(ablations or prompts)
    selected = tuple(name for name in ablations if name in prompts or name.partition(":")[0] in prompts)
    if not selected:
        raise ParamsError(
            f"evaluate.ablation_prompts {list(ablations)} outside evaluate.prompts {list(prompts)}",
            "at least one prompt in common",
            "change one of the two parameters",
        )
    return selected


def prompt_key(prompt_id: str, variant: str) -> str:
    """Returns the key in metrics and predictions: the prompt id, followed by ":variant" unless it is `published`.

    Example: ("B-5", "history") -> "B-5:history"; ("B-5", "published") -> "B-5"
    """
    return prompt_id if variant == "published" else f"{prompt_id}:{variant}"


def rows_by_prompt(
    dataset: PromptDataset, family: int, users: IntArray | None, keys: Sequence[str]
) -> dict[str, IntArray]:
    """Returns the rows of each evaluated prompt of a family, in ascending order of user.

    Args:
        dataset: test prompts.
        family: index in `schema.FAMILIES`.
        users: users to include; None for all.
        keys: prompts to include, by id or key; empty for all.
    """
    pairs = zip(dataset.prompt_ids.to_pylist(), dataset.variants.to_pylist(), strict=True)
    names = np.array([prompt_key(*pair) for pair in pairs], dtype=object)
    rows = np.flatnonzero(dataset.families == family)
    if users is not None:
        rows = rows[np.isin(dataset.user_ids[rows], users)]
    rows_by_key = {}
    for name in sorted({str(name) for name in names[rows]}):
        if keys and name not in keys and name.partition(":")[0] not in keys:
            continue
        prompt_rows = rows[names[rows] == name]
        rows_by_key[name] = prompt_rows[np.argsort(dataset.user_ids[prompt_rows], kind="stable")]
    return rows_by_key


def check_candidates(evaluated: EvaluatedModel, inputs: Inputs) -> None:
    """Raises TableError if the candidates of a direct prompt are not the test item and the user's fixed negatives."""
    dataset, remedy = evaluated.dataset, "run `.venv/bin/dvc repro prompts`"
    for key, rows in rows_by_prompt(dataset, 1, inputs.users, evaluated.prompts).items():
        candidates, targets = dataset.candidate_ids.padded(rows, fill=0), dataset.target_item_ids[rows][:, None]
        if not candidates.shape[1]:
            raise TableError(f"no candidates in {key}", "a list of items in every row", remedy)
        listed = np.sort(np.where(candidates == targets, 0, candidates), 1)
        fixed = inputs.negatives.padded(dataset.user_ids[rows], fill=0)
        fixed = np.sort(np.pad(fixed, ((0, 0), (max(0, listed.shape[1] - fixed.shape[1]), 0))), 1)
        same = (listed == fixed).all(1) if listed.shape == fixed.shape else np.zeros(len(listed), bool)
        same &= (candidates == targets).sum(1) == 1
        if not same.all():
            raise TableError(
                f"{int((~same).sum())} rows of {key} with other candidates, such as user "
                f"{int(dataset.user_ids[rows][np.argmin(same)])}",
                "the test item once and the negatives of the table candidates",
                remedy,
            )


def _check_vision(model: VIP5, photos: PhotoTable) -> None:
    """Raises ModelError if the model was trained on image embeddings of another width."""
    if model.visual is None:
        return
    width = model.visual.inner.weight.shape[1]
    if width != photos.width:
        raise ModelError(
            f"a model trained on image embeddings of width {width}",
            f"width {photos.width}, as in images/embeddings",
            "run `.venv/bin/dvc repro train`",
        )
