"""Prompts a CPU-second, drawn, rendered and written: `python -m benchmarks.prompts [--templates FILE]`.

Enters: a made-up dataset of the size that the original's loader was measured on (5,000 users, 3,000 items, histories of
9.2 items on average, 62 % of the purchases with an explanation). Leaves: a table on standard output.
Trade-off: one process and one thread, without Beam; the best and the middle of several repetitions, since other work on
the machine only ever adds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features import schema
from features.prompts import rendering
from features.prompts.templates import load_templates
from features.runtime import stage
from features.store import tables
from pipelines import candidates, prompts
from pipelines.prompting import render_unit
from pipelines.prompting.config import Params, YesNoShare

NUM_USERS, NUM_ITEMS = 5000, 3000


def write_dataset(root: Path) -> stage.Context:
    """The tables that the prompts stage reads."""
    context = stage.Context(dataset="bench", root=root, seed=1, shared={"beam": {}, "num_visual_tokens": 2})
    generator = np.random.default_rng(1)
    lengths = np.clip(generator.geometric(1 / 5.2, NUM_USERS) + 4, 5, 200)
    share = np.arange(1, NUM_ITEMS + 1) ** -0.6
    users: list[dict[str, Any]] = []
    interactions: list[dict[str, Any]] = []
    explanations: list[dict[str, Any]] = []
    for user_id, length in enumerate(lengths.tolist(), start=1):
        name = None if generator.random() < 0.02 else f"Reader {user_id}"
        users.append({
            "user_id": user_id, "user_key": f"A{user_id:013d}", "name": name, "num_interactions": length,
            "number": user_id,
        })  # fmt: skip
        items = generator.choice(NUM_ITEMS, size=length, replace=False, p=share / share.sum()) + 1
        for position, item_id in enumerate(items.tolist(), start=1):
            split = {length: "test", length - 1: "valid"}.get(position, "train")
            row = {"user_id": user_id, "item_id": item_id, "rating": 4.0, "split": split}
            interactions.append(row | {"position": position, "timestamp": position})
            if generator.random() < 0.62:
                text = {"headline": "Good value", "feature": "sound", "sentence": "the sound is great for the price"}
                explanations.append(row | text)
    catalogue = [
        {
            "item_id": n, "item_key": f"B{n}", "title": None if n % 33 == 0 else f"Kettle with Lid and Spout, size {n}",
            "brand": None, "category": None, "num_interactions": 1, "num_train": 1,
        }
        for n in range(1, NUM_ITEMS + 1)
    ]  # fmt: skip
    identifiers = [{"item_id": n, "code": [n], "text": str(n)} for n in range(1, NUM_ITEMS + 1)]
    rows = {
        schema.USERS: users, schema.INTERACTIONS: interactions, schema.CATALOGUE: catalogue,
        schema.IDENTIFIERS: identifiers, schema.EXPLANATIONS: explanations, schema.SENTENCES: [],
    }  # fmt: skip
    for table, values in rows.items():
        provenance = tables.Provenance(stage=f"benchmark {table.name}", params={})
        tables.write_table(context.table(table.name), table, tables.from_rows(table, values), provenance)
    candidates.run(candidates.Params(), context)
    return context


def published(templates: str | None, yes_no: float | None) -> Params:
    """The published way of drawing, ten examples a user."""
    return Params(
        templates=templates, sequential="last_three", direct_per_user=10, direct_variants=("published",),
        yes_no_share=YesNoShare(sequential=None, direct=yes_no), max_history=None,
    )  # fmt: skip


def cpu_seconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The least and the middle CPU-seconds of several calls."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found), statistics.median(found)


def measure(name: str, job: render_unit.Job, units: list[render_unit.Unit], repeats: int) -> None:
    """Prints one line: rows a CPU-second, drawn and rendered, and with the Parquet parts written too."""
    rows: list[pa.Table] = []

    def render() -> None:
        rows[:] = [render_unit.render_rows(job, unit) for unit in units]

    def write() -> None:
        for unit in units:
            render_unit.render_unit(job, unit)

    rendered = cpu_seconds(render, repeats)
    count = sum(table.num_rows for table in rows)
    photos = np.concatenate([table["image_item_ids"].combine_chunks().value_lengths().to_numpy() for table in rows])
    rows.clear()
    written = cpu_seconds(write, repeats)
    shown = "".join(f"{count / seconds:>10,.0f}" for seconds in (*rendered, *written))
    print(f"{name:<38}{count:>8,}{photos.mean():>8.1f}{shown}")


def render_alone(templates: Path | None, repeats: int) -> None:
    """Prints one line: templates filled with ready slots, 100 candidates, nothing drawn and nothing written."""
    listing = [p for p in load_templates(templates) if p.family == "direct" and not p.asks_yes_no]
    photo = rendering.photo(2)
    items = [rendering.item_with_photo(str(n), photo) for n in range(1, NUM_ITEMS + 1)]
    shown = np.random.default_rng(0).integers(0, NUM_ITEMS, (5000, 100)).tolist()

    def render() -> None:
        for number, row in enumerate(shown):
            prompt = listing[number % len(listing)]
            slots = {"user_id": "1", "user_name": "Ann", "item_id": "7", "photo": photo, "title": "Kettle"}
            slots["candidates"] = rendering.COMMA.join([items[item] for item in row])
            rendering.render_source(prompt, slots)
            rendering.render_target(prompt, slots)

    print(f"{'templates filled, 100 candidates':<38}{len(shown):>8,}{100.0:>8.1f}", end="")
    print("".join(f"{len(shown) / seconds:>10,.0f}" for seconds in cpu_seconds(render, repeats)))


def main() -> None:
    """Prints prompts a CPU-second of the mixes that the original's loader was measured on."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--templates", help="YAML file; by default this project's own words")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    print(f"{'':<54}{'drawn and rendered':>20}{'and written':>20}")
    print(f"{'mix':<38}{'rows':>8}{'photos':>8}" + f"{'best':>10}{'middle':>10}" * 2)
    render_alone(Path(arguments.templates) if arguments.templates else None, arguments.repeats)
    with tempfile.TemporaryDirectory() as root:
        context = write_dataset(Path(root))
        for name, split, family, yes_no in (
            ("100 candidates, B-5 to B-7", "train", "direct", 0.0),
            ("100 stored candidates, B-5 and B-8", "test", "direct", 0.0),
            ("yes or no, B-1 to B-4", "train", "direct", 1.0),
            ("sequential, A-1 to A-8", "train", "sequential", None),
            ("explanation, C-1 to C-11", "train", "explanation", None),
        ):
            params = published(arguments.templates, yes_no)
            job = prompts.make_job(params, context)
            tables.begin_table(job.folder(split, family))
            units = [u for u in prompts.plan(job) if (u.split, u.family) == (split, family)][:2]
            measure(name, job, units, arguments.repeats)


if __name__ == "__main__":
    main()
