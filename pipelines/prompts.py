"""Stage `prompts`: samples and renders every example for training, validation and test.

Reads sequences, candidates, identifiers and explanations. Writes
`prompts/{train,valid,test}/{sequential,direct,explanation}`; train holds `rounds` independent draws.
Trade-off: rendered text takes disk space (about 3 kB per 100-candidate row before compression), and training needs no
templates, sampling or joins.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from features import schema
from features.errors import ParamsError
from features.prompts.config import HistoryParams
from features.prompts.templates import OWN_TEMPLATES, load_templates
from features.runtime import stage
from features.runtime.params import build, nearest
from features.runtime.stage import Context
from features.store import tables
from pipelines.beam.runner import BeamParams, run_units
from pipelines.prompting import render_unit
from pipelines.prompting.example_sampling import Window
from pipelines.prompting.sources import digests


@dataclasses.dataclass(frozen=True, kw_only=True)
class YesNoShare:
    """Share of yes/no prompts among the training draws; null samples uniformly over the family's prompts."""

    sequential: float | None = 0.25
    """Share of A-7 and A-8, 0 to 1. Published: 2 of 8."""
    direct: float | None = 0.571
    """Share of B-1 to B-4, 0 to 1. Published: 4 of 7."""

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} = {share} is not a share from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Params(HistoryParams):
    """Parameters of the stage `prompts`."""

    rounds: int = 1
    """Number of independent draws of the training tables; epoch e reads round e modulo rounds."""
    evaluated: tuple[str, ...] = ("A-3", "A-9", "B-5", "B-8", "C-3", "C-12")
    """Prompts in the test tables; the valid tables contain those that are not held out."""
    max_valid_users: int | None = None
    """Maximum number of users in the valid tables, sampled by the seed; null for all."""
    max_test_users: int | None = None
    """Maximum number of users in the test tables, sampled by the seed; null for all."""
    sequential: Literal["all_positions", "last_three"] = "all_positions"
    """Training targets: every training item but the first, or samples of the last three as published."""
    sequential_per_user: int = 10
    """Draws per user and round for last_three."""
    direct_per_user: int = 4
    """Direct draws per user and round. Published: 10."""
    direct_variants: tuple[Literal["published", "history"], ...] = ("published", "history")
    """Variants of the direct prompts: without and with the history. Training samples them evenly; test uses all."""
    num_candidates: int = 100
    """Candidates per training prompt, including the target; valid and test use the table `candidates`."""
    yes_no_share: YesNoShare = YesNoShare()
    """Share of yes/no prompts among the training draws."""
    max_title_words: int | None = 24
    """Maximum number of words of a title or headline; null for all."""
    rows_per_part: int = 20_000
    """Rows per unit of work and Parquet part."""

    def __post_init__(self) -> None:
        for name in ("rounds", "sequential_per_user", "rows_per_part"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1")
        for name in ("max_history", "max_title_words", "max_valid_users", "max_test_users"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1 (null means no limit)")
        if self.direct_per_user < 0 or self.num_candidates < 2:
            raise ValueError("direct_per_user must be at least 0 and num_candidates at least 2")
        if not self.direct_variants or len(set(self.direct_variants)) != len(self.direct_variants):
            raise ValueError(f"direct_variants = {list(self.direct_variants)} is empty or repeats one")


SECTIONS = ("beam", "num_visual_tokens")
READS = (
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
    "data/${dataset}/explanations",
    "data/${dataset}/candidates",
    "data/${dataset}/identifiers",
)
WRITES = tuple(
    "data/${dataset}/prompts/" + f"{split}/{family}" for split in schema.SPLITS for family in schema.FAMILIES
)


def run(params: Params, context: Context) -> int:
    """Sample and render the examples of all prompt families."""
    check_evaluated(params)
    beam = build(BeamParams, context.shared["beam"], where="beam")
    beam.check()
    job = make_job(params, context)
    units = list(plan(params, job))
    for split, family in _pairs():
        tables.begin_table(context.table(f"prompts/{split}/{family}"))
    ledger = job.folder("train", "sequential").with_name(".counts.json")
    counts = run_units("prompts", units, functools.partial(render_unit.render_unit, job), beam, ledger)
    inputs = {
        name.removeprefix("data/${dataset}/"): context.table(name.removeprefix("data/${dataset}/")) for name in READS
    }
    inputs["templates"] = job.templates or OWN_TEMPLATES
    rows = 0
    for split, family in _pairs():
        table = schema.prompts(split, family)
        folder = context.table(table.name)
        planned = sum(1 for unit in units if (unit.split, unit.family) == (split, family))
        if not planned:
            tables.write_part(tables.staging_of(folder), table, 0, table.arrow.empty_table())
        notes = {"given": given(job)} if family == "explanation" else {}
        provenance = tables.Provenance(stage="prompts", params=params, inputs=inputs, notes=notes)
        written = tables.finish_table(folder, table, provenance)
        if written != counts.get(f"{split}_{family}", 0):
            raise RuntimeError(f"{table.name}: {written} rows on disk, {counts.get(f'{split}_{family}', 0)} rendered")
        rows += written
    return rows


def check_evaluated(params: Params) -> None:
    """Raises ParamsError for an unknown evaluated prompt or a variant that the templates lack."""
    prompts = {prompt.id: prompt for prompt in load_templates(_path(params))}
    for prompt_id in params.evaluated:
        if prompt_id not in prompts:
            raise ParamsError(
                f"prompts.evaluated {prompt_id}", nearest(prompt_id, list(prompts)), "change it in params.yaml"
            )
    for prompt in prompts.values():
        for variant in params.direct_variants if prompt.family == "direct" else ():
            prompt.template(variant)


def make_job(params: Params, context: Context) -> render_unit.Job:
    """The settings that all units share."""
    return render_unit.Job(
        root=context.root.resolve(),
        dataset=context.dataset,
        seed=context.seed,
        num_visual_tokens=context.shared["num_visual_tokens"],
        input_digests=digests(context),
        templates=_path(params),
        evaluated=params.evaluated,
        direct_variants=params.direct_variants,
        yes_no_share=tuple(dataclasses.asdict(params.yes_no_share).items()),
        sequential=params.sequential,
        sequential_per_user=params.sequential_per_user,
        direct_per_user=params.direct_per_user,
        num_candidates=params.num_candidates,
        window=Window(max_history=params.max_history, kept=params.history_kept),
        max_title_words=params.max_title_words,
        max_users=(("valid", params.max_valid_users), ("test", params.max_test_users)),
    )


def given(job: render_unit.Job) -> dict[str, list[str]]:
    """Review slots that the source of each explanation prompt reveals.

    Example: {"C-1": [], "C-3": ["rating"], ...}
    """
    return {prompt.id: list(prompt.given) for prompt in render_unit.family_prompts(job.templates, "explanation")}


def plan(params: Params, job: render_unit.Job) -> Iterator[render_unit.Unit]:
    """Yields the units of work: user ranges of at most `rows_per_part` rows, with part numbers and first example ids.

    A user is never split between parts, so a part is larger if a single user has more rows.
    """
    for split, family in _pairs():
        rows = render_unit.rows_by_user(job, split, family)
        part = example_id = 0
        for number in range(params.rounds if split == "train" else 1):
            for first, last, size in ranges(rows, params.rows_per_part):
                yield render_unit.Unit(
                    split=split, family=family, round=number, first_user=first, last_user=last, part=part,
                    first_example_id=example_id,
                )  # fmt: skip
                part, example_id = part + 1, example_id + size


def ranges(rows: np.ndarray, limit: int) -> Iterator[tuple[int, int, int]]:
    """Yields (first user, last user, number of rows) of user ranges of at most `limit` rows (or one user).

    Example:
        >>> list(ranges(np.array([0, 2, 0, 3, 1]), 4))
        [(1, 1, 2), (3, 4, 4)]
    """
    users = np.flatnonzero(rows)
    ends = np.cumsum(rows[users])
    start = before = 0
    while start < len(users):
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        yield int(users[start]), int(users[stop - 1]), int(ends[stop - 1]) - before
        start, before = stop, int(ends[stop - 1])


def _pairs() -> Iterator[tuple[str, str]]:
    return ((split, family) for split in schema.SPLITS for family in schema.FAMILIES)


def _path(params: Params) -> Path | None:
    return None if params.templates is None else Path(params.templates).resolve()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("prompts", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
