"""One unit of `prompts`: samples and renders the examples of some users and writes them as one part.

Reads a `Unit` (split, family, round, users) and the `Job` shared by all units. Writes `part-NNNNN.parquet`.
A unit knows its first example_id in advance, so the table does not depend on the number of workers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features import schema
from features.errors import TableError
from features.prompts import language, rendering
from features.prompts.templates import Prompt, load_templates
from features.runtime.seeds import rng, stable_hash
from features.runtime.stage import Places
from features.store import tables
from pipelines.negatives import candidate_lists
from pipelines.prompting import example_sampling as draws
from pipelines.prompting.config import Params
from pipelines.prompting.example_sampling import Draw, PromptMix, Window
from pipelines.prompting.language_sampling import language_draws
from pipelines.prompting.sources import Sources, load_sources

ROWS_AT_ONCE = 1000
"""Rows per batch of sampling and rendering; reusing memory takes half the time of allocating it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Parameters and input shared by all units; small, hashable and picklable.

    `places` has an absolute root, `templates` is an absolute path or None, and `input_digests` are those of the tables.
    """

    params: Params
    places: Places
    seed: int
    num_visual_tokens: int
    input_digests: tuple[str, ...]
    templates: Path | None

    @property
    def window(self) -> Window:
        """Truncation of histories."""
        return Window(max_history=self.params.max_history, kept=self.params.history_kept)

    def sources(self) -> Sources:
        """The tables, read once per process."""
        return load_sources(
            self.places,
            num_visual_tokens=self.num_visual_tokens,
            max_title_words=self.params.max_title_words,
            max_language_rows=self.params.max_language_rows,
            seed=self.seed,
            input_digests=self.input_digests,
        )

    def folder(self, split: str, family: str) -> Path:
        """The table's folder."""
        return self.places.table(f"prompts/{split}/{family}")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The users `first_user` to `last_user` of one split, family and round; `part` is the part number."""

    split: str
    family: str
    round: int
    first_user: int
    last_user: int
    part: int
    first_example_id: int


@lru_cache(maxsize=4)
def family_prompts(templates: Path | None, family: str) -> tuple[Prompt, ...]:
    """The prompts of one family, or of the table `train/language`, read once per process."""
    if family == language.FAMILY:
        return language.load_language(templates)
    return tuple(prompt for prompt in load_templates(templates) if prompt.family == family)


def train_mix(job: Job, family: str) -> PromptMix:
    """The prompts that training samples from: all of the family that are not held out."""
    trained = [prompt for prompt in family_prompts(job.templates, family) if not prompt.held_out]
    return PromptMix.of(trained, getattr(job.params.yes_no_share, family, None))


def evaluated_prompts(job: Job, split: str, family: str) -> list[Prompt]:
    """The prompts of `split`: those in `evaluated`, without held-out ones for valid."""
    return [
        prompt
        for prompt in family_prompts(job.templates, family)
        if prompt.id in job.params.evaluated and (split == "test" or not prompt.held_out)
    ]


def evaluated_pairs(job: Job, split: str) -> list[tuple[Prompt, str]]:
    """The direct prompts of `split`, each in every variant."""
    prompts = evaluated_prompts(job, split, "direct")
    return [(prompt, variant) for prompt in prompts for variant in job.params.direct_variants]


@lru_cache(maxsize=2)
def rows_by_user(job: Job, split: str, family: str) -> np.ndarray:
    """Number of rows of each user in one round of a table, (num_users + 1,)."""
    sources = job.sources()
    lengths = sources.lengths()
    chosen = chosen_users(job, split, sources.num_users)
    if family == language.FAMILY:
        is_empty = job.params.max_language_rows == 0 or not family_prompts(job.templates, family)
        counts = sources.sentences.lengths() + sources.titled.lengths() * job.params.titles_per_item
        return np.zeros_like(counts) if is_empty else counts
    if family == "explanation":
        counts = sources.explanations[split].lengths()
        if split == "train":
            return counts
        return np.where(chosen, counts * len(evaluated_prompts(job, split, family)), 0)
    if split == "train" and family == "sequential":
        return draws.num_train_positions(lengths, job.params.sequential, job.params.sequential_per_user)
    if split == "train":
        return np.where(lengths >= 3, job.params.direct_per_user, 0)
    shown = evaluated_prompts(job, split, family) if family == "sequential" else evaluated_pairs(job, split)
    has_past = lengths >= (3 if split == "valid" else 2)
    return np.where(chosen & has_past, len(shown), 0)


def chosen_users(job: Job, split: str, num_users: int) -> np.ndarray:
    """The users in the tables of `split`, sampled by the seed; bool (num_users + 1,)."""
    cap = {"valid": job.params.max_valid_users, "test": job.params.max_test_users}.get(split)
    chosen = np.ones(num_users + 1, dtype=bool)
    if cap is not None and cap < num_users:
        chosen[:] = False
        chosen[1 + rng(job.seed, "prompts", "users", split).permutation(num_users)[:cap]] = True
    return chosen


def render_unit(job: Job, unit: Unit) -> dict[str, int]:
    """Samples, renders and writes one unit; returns its number of rows."""
    table = schema.prompts(unit.split, unit.family)
    staging = tables.staging_of(job.folder(unit.split, unit.family))
    rows = render_rows(job, unit)
    tables.write_part(staging, table, unit.part, rows)
    return {f"{unit.split}_{unit.family}": rows.num_rows}


def render_rows(job: Job, unit: Unit) -> pa.Table:
    """The rows of one unit."""
    sources = job.sources()
    batches: list[pa.Table] = []
    example_id = unit.first_example_id
    for batch in _batches(job, unit, sources):
        list_candidates(batch, unit.split, sources, job.params.num_candidates)
        batches.append(_columns(batch, example_id, unit, sources))
        example_id += len(batch)
    return pa.concat_tables(batches)


def _batches(job: Job, unit: Unit, sources: Sources) -> Iterator[list[Draw]]:
    """Yields the draws of the unit's users, about ROWS_AT_ONCE at a time."""
    counts = rows_by_user(job, unit.split, unit.family)[unit.first_user : unit.last_user + 1]
    draw = _train_draws(job, unit, sources) if unit.split == "train" else _evaluation_draws(job, unit, sources)
    batch: list[Draw] = []
    for user_id in (unit.first_user + np.flatnonzero(counts)).tolist():
        user = draws.User(
            user_id=user_id,
            items=sources.sequences[user_id].tolist(),
            num_items=sources.num_items,
            seed=stable_hash(job.seed, "prompts", unit.split, unit.family, unit.round, user_id),
        )
        batch += draw(user)
        if len(batch) >= ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def list_candidates(batch: Sequence[Draw], split: str, sources: Sources, num_candidates: int) -> None:
    """Sets the candidates of draws with a key: sampled in train, the shuffled stored ones in valid and test."""
    listing = [draw for draw in batch if draw.key is not None]
    if not listing:
        return
    keys = np.array([draw.key for draw in listing], dtype=np.uint64)
    targets = np.array([draw.target for draw in listing], dtype=np.int32)
    user_ids = [draw.user_id for draw in listing]
    if split == "train":
        own, users = np.unique(user_ids, return_inverse=True)
        items = [sources.sequences[user_id] for user_id in own.tolist()]
        lists = candidate_lists.drawn_lists(
            keys, targets, users, bought_by_user=items, num_items=sources.num_items, size=num_candidates
        )
    else:
        stored = sources.negatives[split]
        for user_id in user_ids:
            if stored.starts[user_id] < 0:
                raise TableError(
                    f"no candidates of user {user_id} in {split}", "one row per user and split",
                    "run `.venv/bin/dvc repro candidates`",
                )  # fmt: skip
        lists = candidate_lists.shuffled_lists(keys, targets, [stored[user_id] for user_id in user_ids])
    for draw, candidates in zip(listing, lists, strict=True):
        draw.candidates = candidates


def _train_draws(job: Job, unit: Unit, sources: Sources) -> Callable[[draws.User], Iterable[Draw]]:
    """The function that samples the training examples of one user."""
    if unit.family == language.FAMILY:
        shown = family_prompts(job.templates, unit.family)
        return language_draws(sources, shown, job.params.titles_per_item)
    mix, by_user, params, window = train_mix(job, unit.family), sources.explanations["train"], job.params, job.window
    if unit.family == "sequential":
        return lambda user: draws.train_sequential(user, mix, window, params.sequential, params.sequential_per_user)
    if unit.family == "explanation":
        return lambda user: draws.train_explanation(user, mix, by_user[user.user_id])
    variants, per_user = params.direct_variants, params.direct_per_user
    return lambda user: draws.train_direct(user, mix, window, variants=variants, per_user=per_user)


def _evaluation_draws(job: Job, unit: Unit, sources: Sources) -> Callable[[draws.User], Iterable[Draw]]:
    """The function that builds the valid or test examples of one user."""
    shown, by_user = evaluated_prompts(job, unit.split, unit.family), sources.explanations[unit.split]
    if unit.family == "explanation":
        return lambda user: draws.evaluate_explanation(user.user_id, by_user[user.user_id], shown)
    window, behind = job.window, 1 if unit.split == "test" else 2
    if unit.family == "sequential":
        return lambda user: draws.evaluate_sequential(user, len(user.items) - behind, shown, window)
    pairs = evaluated_pairs(job, unit.split)
    return lambda user: draws.evaluate_direct(user, len(user.items) - behind, pairs, window)


def render(draw: Draw, sources: Sources) -> tuple[str, str, rendering.Items]:
    """Renders one draw; returns the source, the target and the photo items in text order."""
    with_photo, explanation = sources.items_with_photo, draw.explanation
    asked = draw.target if draw.asked is None else draw.asked
    slots = {"user_id": sources.numbers[draw.user_id], "user_name": sources.names[draw.user_id], "photo": sources.photo}
    by_slot: dict[str, rendering.Items] = {"history": draw.history}
    slots["history"] = draw.separator.join([with_photo[item] for item in draw.history])
    slots["yes_no"] = draw.answer
    if draw.candidates is not None:
        by_slot["candidates"] = draw.candidates
        slots["candidates"] = rendering.COMMA.join(map(with_photo.__getitem__, draw.candidates.tolist()))
    if asked is not None:
        by_slot["photo"] = (asked,)
        slots["item_id"], slots["title"] = sources.identifiers[asked], sources.titles[asked]
    if explanation is not None:
        slots["headline"], slots["feature"] = explanation.headline, explanation.feature
        slots["explanation"], slots["rating"] = explanation.sentence, rendering.stars(explanation.rating)
    source = rendering.render_source(draw.prompt, slots, draw.variant)
    slots["rating"] = draw.target_rating
    target = rendering.render_target(draw.prompt, slots)
    return source, target, rendering.image_items(draw.prompt, draw.variant, by_slot)


def _columns(batch: Sequence[Draw], first: int, unit: Unit, sources: Sources) -> pa.Table:
    rows = [render(draw, sources) for draw in batch]
    count = len(batch)
    columns: dict[str, Any] = {
        "example_id": np.arange(first, first + count, dtype=np.int64),
        "split": pa.repeat(unit.split, count),
        "family": pa.repeat("explanation" if unit.family == language.FAMILY else unit.family, count),
        "prompt_id": [draw.prompt.id for draw in batch],
        "variant": [draw.variant for draw in batch],
        "round": np.full(count, unit.round, dtype=np.int32),
        "user_id": np.array([draw.user_id for draw in batch], dtype=np.int32),
        "target_item_id": pa.array([draw.target for draw in batch], pa.int32()),
        "image_item_ids": _lists([images for _, _, images in rows]),
        "candidate_item_ids": _lists([draw.candidates for draw in batch]),
        "source": [source for source, _, _ in rows],
        "target": [target for _, target, _ in rows],
    }
    table = schema.prompts(unit.split, unit.family)
    return pa.table(
        [
            pa.array(columns[name], field.type) if isinstance(columns[name], list) else columns[name]
            for name, field in zip(table.arrow.names, table.arrow, strict=True)
        ],
        names=table.arrow.names,
    )


def _lists(values: Sequence[Sequence[int] | np.ndarray | None]) -> pa.ListArray:
    runs = [np.asarray(() if value is None else value, dtype=np.int32) for value in values]
    offsets = [0, *accumulate(len(run) for run in runs)]
    flat = np.concatenate(runs) if runs else np.zeros(0, dtype=np.int32)
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat), type=schema.IDS, mask=missing)
