"""Recommends items: renders the prompts of users and ranks all items that they do not have.

Reads the settings of a request, its model and tables; returns the best items of one user, or of every user as rows of
the table `predictions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from features import schema
from features.prompts import rendering
from features.prompts.templates import Prompt
from features.runtime.stage import Places
from features.store.tables import from_rows, read_table
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.ragged import Ragged, offsets_of
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.user_histories import UserHistories
from modeling.decoding.catalogue import Catalogue, catalogue_of
from modeling.decoding.constrained_search import constrained_beam_search
from modeling.evaluation.rank_prompts import rank_prompt
from modeling.evaluation.results import prediction_rows
from modeling.models.checkpoints import load_vip5
from modeling.models.model_manifest import read_manifest
from modeling.models.vip5 import VIP5
from modeling.serving.request import PipelineSettings, RequestUser

_USER_COLUMNS = ("user_id", "user_key", "name", "number")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The recommendations for one user."""

    prompt: Prompt
    source: str
    shown: tuple[int, ...]
    """Items of the history that the prompt shows."""
    items: tuple[int, ...]
    """Item ids, best first, without items of the history."""
    scores: tuple[float, ...]
    """Log-probability per item, nats."""


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A model with its catalogue and photos."""

    settings: PipelineSettings
    model: VIP5
    tokens: VIP5Tokenizer
    catalogue: Catalogue
    photos: PhotoTable | None
    photo: str
    """Placeholders of one photo in a prompt."""

    @classmethod
    def of(cls, settings: PipelineSettings) -> "_Loaded":
        places = settings.places
        num_visual_tokens = max(1, read_manifest(places, "train")["num_visual_tokens"])
        model, tokens = load_vip5(places)
        identifiers = read_table(places.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
        return cls(
            settings=settings,
            model=model,
            tokens=tokens,
            catalogue=catalogue_of(identifiers, tokens),
            photos=None if model.visual is None else PhotoTable.load(places.table("images/embeddings")),
            photo=rendering.photo(num_visual_tokens),
        )

    def row(self, prompt: Prompt, user: RequestUser) -> dict[str, Any]:
        """Returns the row of a prompt table for `user`; the target is only a placeholder."""
        texts, shown = self.catalogue.texts, self.settings.shown_history(user.history)
        items = (rendering.item_with_photo(texts[item - 1], self.photo) for item in shown)
        slots = {"user_id": str(user.number), "user_name": user.name, "history": rendering.COMMA.join(items)}
        user_id = user.user_id or 1
        return {
            "example_id": user_id - 1, "split": "test", "family": prompt.family, "prompt_id": prompt.id,
            "variant": "published", "round": 0, "user_id": user_id, "target_item_id": None,
            "image_item_ids": list(shown), "candidate_item_ids": None,
            "source": rendering.render_source(prompt, slots), "target": texts[shown[-1] - 1],
        }  # fmt: skip

    def dataset(self, prompt: Prompt, rows: Sequence[dict[str, Any]]) -> PromptDataset:
        """Returns the tokenised prompt rows."""
        return PromptDataset(from_rows(schema.prompts("test", prompt.family), rows), self.tokens, self.photos)


def recommend(settings: PipelineSettings, user: RequestUser, *, prompt: Prompt, top_k: int) -> Answer:
    """Returns the `top_k` best items for `user` by constrained beam search over all items not in the history."""
    loaded = _Loaded.of(settings)
    row, catalogue = loaded.row(prompt, user), loaded.catalogue
    allowed = np.ones((1, catalogue.num_items), np.bool_)
    allowed[0, np.array(user.history) - 1] = False
    batch = loaded.dataset(prompt, [row]).batch([0])
    ranked = constrained_beam_search(
        loaded.model, batch, catalogue.tree, allowed, beam=settings.evaluate.beam, top_k=top_k
    )
    kept = ranked.items[0] > 0  # fewer than top_k if the catalogue is smaller
    return Answer(
        prompt=prompt, source=row["source"], shown=tuple(row["image_item_ids"]),
        items=tuple(ranked.items[0][kept].tolist()), scores=tuple(ranked.scores[0][kept].tolist()),
    )  # fmt: skip


def recommend_to_all(settings: PipelineSettings, prompt: Prompt, *, top_k: int, batch_size: int) -> pa.Table:
    """Returns the `top_k` best unseen items per user as rows of the table `predictions`."""
    loaded, histories = _Loaded.of(settings), complete_histories(settings.places)
    dataset = loaded.dataset(prompt, [loaded.row(prompt, user) for user in _users(settings.places, histories)])
    params = replace(settings.evaluate, top_k=top_k, batch_size=batch_size)
    rankings = rank_prompt(
        loaded.model, dataset, np.arange(histories.num_users), catalogue=loaded.catalogue, histories=histories,
        params=params, label="recommend",
    )  # fmt: skip
    return prediction_rows(prompt.id, rankings)


def complete_histories(places: Places) -> UserHistories:
    """Returns every user's items in time order, test item included; the ranking masks all of them."""
    columns = ("user_id", "item_id")
    rows = read_table(places.table("sequences/interactions"), schema.INTERACTIONS, columns=columns)
    users = rows["user_id"].to_numpy().astype(np.int64)
    lengths = np.bincount(users) if len(users) else np.zeros(1, np.int64)
    known = Ragged(rows["item_id"].to_numpy().astype(np.int64), offsets_of(lengths))
    return UserHistories(known=known, train=known, targets=np.zeros(len(lengths), np.int64))


def _users(places: Places, histories: UserHistories) -> list[RequestUser]:
    """Returns all users in ascending order."""
    rows = read_table(places.table("sequences/users"), schema.USERS, columns=_USER_COLUMNS).to_pylist()
    return [
        RequestUser(
            label=f"user {row['user_key']}",
            user_id=row["user_id"],
            number=row["number"],
            name=rendering.shown_name(row["name"], row["user_key"]),
            history=tuple(histories.known.row(row["user_id"]).tolist()),
        )
        for row in rows
    ]
