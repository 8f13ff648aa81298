"""Stage `prompts`: samples and renders every example for training, validation and test.

Reads sequences, candidates, identifiers, explanations and sentences. Writes
`prompts/{train,valid,test}/{sequential,direct,explanation}` and `prompts/train/language`, whose rows are of the family
explanation, without user and photo; train holds `rounds` independent draws.
Trade-off: rendered text takes disk space (about 3 kB per 100-candidate row before compression), and training needs no
templates, sampling or joins.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from features import schema
from features.errors import ParamsError
from features.prompts.templates import OWN_TEMPLATES, load_templates
from features.runtime import stage
from features.runtime.params import build, nearest
from features.runtime.stage import Context, Places
from features.store import tables
from pipelines.beam.runner import BeamParams, run_units
from pipelines.prompting import render_unit
from pipelines.prompting.config import Params
from pipelines.prompting.sources import digests

SECTIONS = ("beam", "num_visual_tokens")
READS = (
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
    "data/${dataset}/explanations",
    "data/${dataset}/sentences",
    "data/${dataset}/candidates",
    "data/${dataset}/identifiers",
)
WRITES = tuple("data/${dataset}/prompts/" + f"{split}/{family}" for split, family in schema.PROMPT_TABLES)


def run(params: Params, context: Context) -> int:
    """Sample and render the examples of all prompt families."""
    check_evaluated(params)
    beam = build(BeamParams, context.shared["beam"], where="beam")
    beam.check()
    job = make_job(params, context)
    units = list(plan(job))
    for split, family in schema.PROMPT_TABLES:
        tables.begin_table(context.table(f"prompts/{split}/{family}"))
    ledger = job.folder("train", "sequential").with_name(".counts.json")
    counts = run_units("prompts", units, functools.partial(render_unit.render_unit, job), beam, ledger)
    return sum(
        finish(job, context, split, family, counts.get(f"{split}_{family}", 0))
        for split, family in schema.PROMPT_TABLES
    )


def finish(job: render_unit.Job, context: Context, split: str, family: str, num_rendered: int) -> int:
    """Puts one table in place, empty if no unit wrote a part; returns the number of rows.

    Raises:
        RuntimeError: The table does not have `num_rendered` rows.
    """
    table = schema.prompts(split, family)
    folder = context.table(table.name)
    if not any(tables.staging_of(folder).glob("part-*.parquet")):
        tables.write_part(tables.staging_of(folder), table, 0, table.arrow.empty_table())
    inputs = {name: context.table(name) for name in (path.removeprefix("data/${dataset}/") for path in READS)}
    inputs["templates"] = job.templates or OWN_TEMPLATES
    notes = {"given": given(job)} if family == "explanation" else {}
    provenance = tables.Provenance(stage="prompts", params=job.params, inputs=inputs, notes=notes)
    written = tables.finish_table(folder, table, provenance)
    if written != num_rendered:
        raise RuntimeError(f"{table.name}: {written} rows on disk, {num_rendered} rendered")
    return written


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
    """The input that all units share."""
    return render_unit.Job(
        params=params,
        places=Places(root=context.root.resolve(), dataset=context.dataset),
        seed=context.seed,
        num_visual_tokens=context.shared["num_visual_tokens"],
        input_digests=digests(context),
        templates=_path(params),
    )


def given(job: render_unit.Job) -> dict[str, list[str]]:
    """Review slots that the source of each explanation prompt reveals.

    Example: {"C-1": [], "C-3": ["rating"], ...}
    """
    return {prompt.id: list(prompt.given) for prompt in render_unit.family_prompts(job.templates, "explanation")}


def plan(job: render_unit.Job) -> Iterator[render_unit.Unit]:
    """Yields the units of work: user ranges of at most `rows_per_part` rows, with part numbers and first example ids.

    A user is never split between parts, so a part is larger if a single user has more rows.
    """
    for split, family in schema.PROMPT_TABLES:
        rows = render_unit.rows_by_user(job, split, family)
        part = example_id = 0
        for number in range(job.params.rounds if split == "train" else 1):
            for first, last, size in ranges(rows, job.params.rows_per_part):
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


def _path(params: Params) -> Path | None:
    return None if params.templates is None else Path(params.templates).resolve()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("prompts", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
