"""A tiny dataset: the tables that the training stages read, written without running the other stages."""

import csv
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import yaml

from features import schema
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import Provenance, from_rows, write_table
from modeling.config.training import LoopParams

Loop = TypeVar("Loop", bound=LoopParams)

NUM_USERS, NUM_ITEMS, WIDTH = 30, 12, 8
PHOTO = "<extra_id_0> <extra_id_0>"
MADE = Provenance(stage="test", params={})

BACKBONE: Mapping[str, Any] = {
    "scratch": {"d_model": 16, "d_ff": 32, "num_heads": 2, "d_kv": 8, "num_layers": 1, "num_decoder_layers": 1},
    "vocabulary_size": 120,
    "max_source_tokens": 256,
    "max_target_tokens": 16,
}


def context(root: Path, **shared: Any) -> Context:
    """Returns the context of the dataset `tiny` below `root`."""
    return Context(
        dataset="tiny", root=root, seed=5, shared={"backbone": dict(BACKBONE), "num_visual_tokens": 2} | shared
    )


def changed(params: Loop, **groups: Mapping[str, Any]) -> Loop:
    """`params` with other values in some groups, such as `changed(LOOP, schedule={"epochs": 1})`."""
    return replace(params, **{name: replace(getattr(params, name), **values) for name, values in groups.items()})


def exit_code(stage: ModuleType, params: Any, place: Context) -> int:
    """Runs the command of a stage in the world's folder with `params` as its section; returns the exit code."""
    name = stage.__name__.rpartition(".")[2]
    shared = dict(place.shared)
    if "datasets" in shared:
        shared["datasets"] = {place.dataset: shared["datasets"]}
    whole = {"dataset": place.dataset, "seed": place.seed, name: asdict(params)} | shared
    path = place.root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    before = Path.cwd()
    os.chdir(place.root)
    try:
        code: int = stage.main(["--params", str(path)])
    finally:
        os.chdir(before)
    return code


def curve(place: Context, stage: str) -> list[dict[str, str]]:
    """Returns the rows of a stage's curve."""
    with place.plots(f"{stage}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_world(root: Path, *, item: str = "<item_{}>", with_language: bool = False) -> Context:
    """Writes identifiers, photos (item 3 has none) and prompts in which item k + 1 follows item k.

    The table of language rows is empty, or holds two rows per item.
    """
    place = context(root)
    texts = [item.format(i) for i in range(1, NUM_ITEMS + 1)]
    rows = [{"item_id": i, "code": [i], "text": text} for i, text in enumerate(texts, 1)]
    write_table(place.table("identifiers"), schema.IDENTIFIERS, from_rows(schema.IDENTIFIERS, rows), MADE)
    photos = schema.embeddings(WIDTH)
    vectors = rng(5, "photos").standard_normal((NUM_ITEMS, WIDTH)).astype(np.float16)
    vectors[2] = 0
    data = pa.table(
        {
            "item_id": pa.array(range(1, NUM_ITEMS + 1), pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH),
            "status": ["missing" if i == 3 else "ok" for i in range(1, NUM_ITEMS + 1)],
            "sha256": pa.nulls(NUM_ITEMS, pa.string()),
            "treatment": pa.nulls(NUM_ITEMS, pa.string()),
        }
    ).cast(photos.arrow)
    write_table(place.table("images/embeddings"), photos, data, MADE)
    prompts = replace(MADE, notes={"given": {"C-3": ["rating"]}})
    for split, family in schema.PROMPT_TABLES:
        table = schema.prompts(split, family)
        rows = prompt_rows(family, item=item) if family in schema.FAMILIES else language_rows(with_language)
        made = [{"family": family} | row | {"example_id": i, "split": split} for i, row in enumerate(rows)]
        write_table(place.table(table.name), table, from_rows(table, made), prompts)
    return place


def language_rows(wanted: bool) -> list[dict[str, Any]]:
    """Returns a sentence and a title per item, or nothing."""
    known: dict[str, Any] = {
        "family": "explanation", "variant": "published", "round": 0, "user_id": 1, "target_item_id": None,
        "candidate_item_ids": None, "image_item_ids": [],
    }  # fmt: skip
    texts = [
        text
        for n in range(1, NUM_ITEMS + 1)
        for text in (
            ("L-3", f"Write about the box of <item_{n}> .", f"the box of number {n} is flat"),
            ("L-9", f"Title of <item_{n}> ?", f"Small Lamp {n}"),
        )
    ]
    return [known | {"prompt_id": name, "source": source, "target": target} for name, source, target in texts if wanted]


def prompt_rows(family: str, *, item: str = "<item_{}>") -> list[dict[str, Any]]:
    """Returns one row per user of a family."""
    rows = []
    for user in range(1, NUM_USERS + 1):
        first = user % NUM_ITEMS + 1
        items = [(first + k) % NUM_ITEMS + 1 for k in range(2 + user % 3)]
        target = items[-1] % NUM_ITEMS + 1
        row = {
            "variant": "published",
            "round": 0,
            "user_id": user,
            "target_item_id": target,
            "candidate_item_ids": None,
        }
        if family == "sequential":
            history = " , ".join(f"{item.format(i)} {PHOTO}" for i in items)
            row |= {
                "prompt_id": "A-3", "image_item_ids": items,
                "source": f"Here is what user_{user} bought : \n {history} \n what is next ?",
                "target": item.format(target),
            }  # fmt: skip
        elif family == "direct":
            candidates = sorted({target, *items})
            shown = " , ".join(f"{item.format(i)} {PHOTO}" for i in candidates)
            row |= {
                "prompt_id": "B-5", "image_item_ids": candidates, "candidate_item_ids": candidates,
                "source": f"Choose one for user_{user} : \n {shown}", "target": item.format(target),
            }  # fmt: skip
        else:
            row |= {
                "prompt_id": "C-3", "image_item_ids": [target], "target_item_id": None,
                "source": f"Explain to user_{user} the 5 star item {item.format(target)} {PHOTO}",
                "target": f"the colour of number {target} is good",
            }  # fmt: skip
        rows.append(row)
    return rows
