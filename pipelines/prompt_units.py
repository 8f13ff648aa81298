"""One unit of the prompts stage: the examples of some users, drawn, rendered and written as one part.

Enters: a `Unit` (split, family, round, users) and the `Job` that all units share. Leaves: `part-NNNNN.parquet`.
Trade-off: a unit knows its first example_id beforehand, so the table is the same whatever the number of workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from features import rendering, schema, tables
from features.errors import TableError
from features.seeds import rng
from features.stage import Places
from features.templates import Prompt, load_templates
from pipelines import prompt_draws as draws
from pipelines.prompt_draws import Draw, Menu, Window
from pipelines.prompt_sources import Sources, load_sources

EVALUATION_SPLITS = ("valid", "test")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all units share; small and picklable. Fields are those of the stage's `Params` unless said."""

    root: Path
    dataset: str
    seed: int
    num_visual_tokens: int
    input_digests: tuple[str, ...]
    templates: Path | None
    evaluated: tuple[str, ...]
    direct_variants: tuple[str, ...]
    yes_no_share: tuple[tuple[str, float | None], ...]
    sequential: Literal["all_positions", "last_three"]
    sequential_per_user: int
    direct_per_user: int
    num_candidates: int
    window: Window
    max_title_words: int | None

    def sources(self) -> Sources:
        """The tables, read once a process."""
        return load_sources(self.root, self.dataset, self.num_visual_tokens, self.max_title_words, self.input_digests)

    def folder(self, split: str, family: str) -> Path:
        """The table's folder."""
        return Places(root=self.root, dataset=self.dataset).table(f"prompts/{split}/{family}")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Some users of one split, family and round, ascending; `part` is the number of its file."""

    split: str
    family: str
    round: int
    users: tuple[int, ...]
    part: int
    first_example_id: int


@lru_cache(maxsize=4)
def family_prompts(templates: Path | None, family: str) -> tuple[Prompt, ...]:
    """The prompts of one family, read once a process."""
    return tuple(prompt for prompt in load_templates(templates) if prompt.family == family)


def train_menu(job: Job, family: str) -> Menu:
    """The prompts that training may draw: all of the family that are not held out."""
    trained = [prompt for prompt in family_prompts(job.templates, family) if not prompt.held_out]
    return Menu.of(trained, dict(job.yes_no_share).get(family))


def evaluated_prompts(job: Job, split: str, family: str) -> list[Prompt]:
    """The prompts that `split` shows: those of `evaluated`, without held-out ones in valid."""
    return [
        prompt
        for prompt in family_prompts(job.templates, family)
        if prompt.id in job.evaluated and (split == "test" or not prompt.held_out)
    ]


def evaluated_pairs(job: Job, split: str) -> list[tuple[Prompt, str]]:
    """The direct prompts of `split`, each in every variant."""
    return [(prompt, variant) for prompt in evaluated_prompts(job, split, "direct") for variant in job.direct_variants]


def rows_by_user(job: Job, split: str, family: str, chosen: np.ndarray) -> np.ndarray:
    """How many rows each user gives to one round of a table; shape (num_users + 1,).

    Args:
        job: the shared settings.
        split: train, valid or test.
        family: sequential, direct or explanation.
        chosen: bool (num_users + 1,), the users that an evaluation split keeps (ignored in train).
    """
    sources = job.sources()
    lengths = sources.lengths()
    if family == "explanation":
        counts = sources.explanation_counts(split)
        if split == "train":
            return counts
        return np.where(chosen, counts * len(evaluated_prompts(job, split, family)), 0)
    if split == "train" and family == "sequential":
        return draws.num_train_positions(lengths, job.sequential, job.sequential_per_user)
    if split == "train":
        return np.where(lengths >= 3, job.direct_per_user, 0)
    shown = evaluated_prompts(job, split, family) if family == "sequential" else evaluated_pairs(job, split)
    has_past = lengths >= (3 if split == "valid" else 2)
    return np.where(chosen & has_past, len(shown), 0)


def render_unit(job: Job, unit: Unit) -> dict[str, int]:
    """Draws, renders and writes one unit; returns the count of its rows."""
    sources = job.sources()
    found = [draw for user_id in unit.users for draw in _draws(job, unit, sources, user_id)]
    table = schema.prompts(unit.split, unit.family)
    staging = tables.staging_of(job.folder(unit.split, unit.family))
    tables.write_part(staging, table, unit.part, _columns(found, unit, sources))
    return {f"{unit.split}_{unit.family}": len(found)}


def _draws(job: Job, unit: Unit, sources: Sources, user_id: int) -> Iterator[Draw]:
    user = draws.User(
        user_id=user_id,
        items=sources.sequences[user_id],
        num_items=sources.num_items,
        generator=rng(job.seed, "prompts", unit.split, unit.family, unit.round, user_id),
    )
    if unit.split == "train":
        return _train_draws(job, unit.family, sources, user)
    return _evaluation_draws(job, unit, sources, user)


def _train_draws(job: Job, family: str, sources: Sources, user: draws.User) -> Iterator[Draw]:
    menu = train_menu(job, family)
    if family == "sequential":
        return draws.train_sequential(user, menu, job.window, job.sequential, job.sequential_per_user)
    if family == "explanation":
        return draws.train_explanation(user, menu, sources.explanations["train"].get(user.user_id, ()))
    return draws.train_direct(
        user,
        menu,
        job.window,
        variants=job.direct_variants,
        per_user=job.direct_per_user,
        num_candidates=job.num_candidates,
    )


def _evaluation_draws(job: Job, unit: Unit, sources: Sources, user: draws.User) -> Iterator[Draw]:
    shown = evaluated_prompts(job, unit.split, unit.family)
    if unit.family == "explanation":
        found = sources.explanations[unit.split].get(user.user_id, ())
        return draws.evaluate_explanation(user.user_id, found, shown)
    target = len(user.items) - (1 if unit.split == "test" else 2)
    if unit.family == "sequential":
        return draws.evaluate_sequential(user, target, shown, job.window)
    negatives = sources.candidates.get((user.user_id, unit.split))
    if negatives is None:
        raise TableError(
            f"no candidates of user {user.user_id} in {unit.split}",
            "one row a user and split",
            "run `dvc repro candidates`",
        )
    return draws.evaluate_direct(user, target, evaluated_pairs(job, unit.split), job.window, negatives)


def render(draw: Draw, sources: Sources) -> tuple[str, str, list[int]]:
    """The source, the target and the photo items of one draw, in text order."""
    with_photo, explanation = sources.items_with_photo, draw.explanation
    asked = draw.target if draw.asked is None else draw.asked
    slots = {"user_id": sources.numbers[draw.user_id], "user_name": sources.names[draw.user_id], "photo": sources.photo}
    slots["history"] = draw.separator.join([with_photo[item] for item in draw.history])
    slots["yes_no"] = draw.answer
    if draw.candidates is not None:
        slots["candidates"] = rendering.COMMA.join([with_photo[item] for item in draw.candidates])
    if asked is not None:
        slots["item_id"], slots["title"] = sources.identifiers[asked], sources.titles[asked]
    if explanation is not None:
        slots["headline"], slots["feature"] = explanation.headline, explanation.feature
        slots["explanation"], slots["rating"] = explanation.sentence, rendering.stars(explanation.rating)
    source = rendering.render_source(draw.prompt, slots, draw.variant)
    slots["rating"] = draw.target_rating
    by_slot: dict[str, Sequence[int]] = {
        "history": draw.history,
        "candidates": draw.candidates or (),
        "photo": () if asked is None else (asked,),
    }
    return (
        source,
        rendering.render_target(draw.prompt, slots),
        rendering.image_items(draw.prompt, draw.variant, by_slot),
    )


def _columns(found: Sequence[Draw], unit: Unit, sources: Sources) -> pa.Table:
    rows = [render(draw, sources) for draw in found]
    count = len(found)
    columns: dict[str, Any] = {
        "example_id": np.arange(unit.first_example_id, unit.first_example_id + count, dtype=np.int64),
        "split": pa.repeat(unit.split, count),
        "family": pa.repeat(unit.family, count),
        "prompt_id": [draw.prompt.id for draw in found],
        "variant": [draw.variant for draw in found],
        "round": np.full(count, unit.round, dtype=np.int32),
        "user_id": np.array([draw.user_id for draw in found], dtype=np.int32),
        "target_item_id": pa.array([draw.target for draw in found], pa.int32()),
        "image_item_ids": _lists([images for _, _, images in rows]),
        "candidate_item_ids": _lists([draw.candidates for draw in found]),
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


def _lists(values: Sequence[Sequence[int] | None]) -> pa.ListArray:
    offsets = [0, *accumulate(len(value) if value is not None else 0 for value in values)]
    flat = np.fromiter(chain.from_iterable(value for value in values if value is not None), np.int32, offsets[-1])
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat), type=schema.IDS, mask=missing)
