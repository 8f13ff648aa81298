"""Generates `docs/data-flow.md`: the graph of `dvc.yaml` as a diagram and a table, and the glossary.

The page shows data dependencies only; tests/test_graph.py verifies the code dependencies.
"""

from collections.abc import Mapping
from typing import Any

DATA_ROOTS = ("data/", "models/", "metrics/", "plots/", "reports/")

GLOSSARY = {
    "adapter": "small two-layer network inside a Transformer block; trained while the block is frozen",
    "aspect": "noun for a property, part or use of an item on which many reviews of the category give an opinion",
    "backbone": "the T5 encoder-decoder, without visual tokens and adapters",
    "candidates": "the items of a direct prompt: one that the user bought and 99 that the user never bought",
    "category embedding": "marks each position of the encoder as text or visual token",
    "dataset": "one entry of `datasets` in params.yaml: a dump, its format and its files",
    "direct": "prompt family B: choose among candidates, or say yes or no to one item",
    "dump": "the files of a dataset as downloaded, below `data/raw/`",
    "explanation": "prompt family C: write a sentence of the user's review; also one row of the table `explanations`",
    "family": "sequential, direct or explanation",
    "feature word": "the aspect that an explanation mentions",
    "held out": "a prompt that is not used in training, so that evaluation with it is zero-shot in wording",
    "history": "the items that a user bought before the target item, oldest first",
    "identifier": "how an item is written in a prompt: digits, one token, or a few code tokens",
    "interaction": "one review of an item by a user, as a purchase",
    "item": "a product; `item_key` in the dump, `item_id` after `sequences`",
    "k-core": "the users and items that remain after those with fewer than k interactions are removed repeatedly",
    "leak": "any way in which a training example, an id or a name reveals the answer to a valid or test prompt",
    "manifest": "`_manifest.json` of a table: rows, digests of schema, parameters and inputs; written last",
    "part": "one Parquet file of a table",
    "position": "place of an interaction in the user's time order, from 1",
    "prompt": "a template of the 29, or its text with slots filled",
    "reject": "a dump line or photo that could not be accepted, kept as a row with its reason",
    "round": "one independent sample of the training prompts; epochs cycle through the rounds",
    "sequential": "prompt family A: name the item that follows a history, or say yes or no to one",
    "slot": "a named place such as {history} in a prompt template",
    "source, target": "the text that the encoder reads, and the text that the decoder must write",
    "split": "train, valid (the last but one interaction of a user) or test (the last)",
    "stage": "a step of dvc.yaml: a module, a section of params.yaml and folders of the same name",
    "unit": "the work of one Beam element: thousands of rows",
    "user": "a customer; `user_key` in the dump, `user_id` after `sequences`",
    "variant": "published, or history where a direct prompt also shows the history",
    "visual token": "a vector computed from a photo that takes the place of a word embedding in the encoder's input",
    "whole-word embedding": "marks which sub-word pieces belong to one word",
}


def data_flow(graph: Mapping[str, Any]) -> str:
    """Generates the page of the data flow.

    Args:
        graph: `dvc.yaml` as a mapping with the key `stages`.

    Example:
        A graph of `a` (outs `data/x`) and `b` (deps `data/x`) gives a diagram with `a --> b`.
    """
    stages: Mapping[str, Mapping[str, Any]] = graph["stages"]
    lines = [
        "# Data flow",
        "",
        "Each box is a stage of `dvc.yaml`: a module, a section of `params.yaml` and output folders of the same name.",
        "An arrow means that a stage reads what another wrote; [tables.md](tables.md) lists the columns of each table.",
        "",
        *_picture(stages),
        "",
        "`${dataset}` is the key `dataset` of `params.yaml`; `dataset` and `seed` are left out of the last column.",
        "",
        "| stage | what it does | reads | writes | parameters |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(name, stage) for name, stage in stages.items()]
    lines += ["", "## Glossary", "", "One word per concept, everywhere.", "", "| word | meaning |", "|---|---|"]
    lines += [f"| {word} | {meaning} |" for word, meaning in GLOSSARY.items()]
    return "\n".join(lines) + "\n"


def edges(stages: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns (writer, reader) pairs, where the reader depends on an output of the writer."""
    writers = {out: name for name, stage in stages.items() for out in _outs(stage)}
    pairs = []
    for reader, stage in stages.items():
        found = [writer for out, writer in writers.items() if any(_covers(out, dep) for dep in stage.get("deps", []))]
        pairs += [(writer, reader) for writer in dict.fromkeys(found) if writer != reader]
    if "sample" in stages:  # the dump of any other dataset comes from flows.ingest instead
        pairs += [("sample", name) for name, stage in stages.items() if "data/raw/${dataset}" in stage.get("deps", [])]
    return sorted(set(pairs), key=lambda pair: (list(stages).index(pair[0]), list(stages).index(pair[1])))


def _covers(out: str, dep: str) -> bool:
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")


def _outs(stage: Mapping[str, Any]) -> list[str]:
    entries = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return [next(iter(entry)) if isinstance(entry, Mapping) else entry for entry in entries]


def _picture(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name, stage in stages.items():
        groups.setdefault(_package(stage), []).append(name)
    lines = ["```mermaid", "flowchart TD", '  ingest(["flows.ingest"])']
    for package, names in groups.items():
        lines += [f"  subgraph {package}", *[f"    {name}" for name in names], "  end"]
    lines += [f"  {writer} --> {reader}" for writer, reader in edges(stages)]
    lines += ["  ingest -.-> records" if "records" in stages else "", "```"]
    return [line for line in lines if line]


def _package(stage: Mapping[str, Any]) -> str:
    module = str(stage["cmd"]).split("-m ", 1)[-1].split()[0]
    return module.split(".", 1)[0]


def _row(name: str, stage: Mapping[str, Any]) -> str:
    reads = [dep for dep in stage.get("deps", []) if dep.startswith(DATA_ROOTS)]
    params = [str(param) for param in stage.get("params", []) if param not in {"dataset", "seed"}]
    cells = [f"`{name}`", str(stage.get("desc", "")), _paths(reads), _paths(_outs(stage)), _paths(params)]
    return f"| {' | '.join(cells)} |"


def _paths(paths: list[str]) -> str:
    return "<br>".join(f"`{path}`" for path in paths) or "-"
