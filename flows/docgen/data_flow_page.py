"""Generates `docs/reference/data-flow.md`: the graph of `dvc.yaml` as a diagram and a block for each stage.

The page shows data dependencies only; tests/flows verifies the code dependencies.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

DATA_ROOTS = ("data/", "models/", "metrics/", "plots/", "reports/")


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
        "An arrow means that a stage reads what another wrote; [tables.md](tables.md) lists the columns of each table,",
        "[glossary.md](glossary.md) the terms.",
        "",
        *_picture(stages),
        "",
        "`${dataset}` is the key `dataset` of `params.yaml`; the parameters `dataset` and `seed` are not listed.",
    ]
    for name, stage in stages.items():
        lines += _block(name, stage)
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


def _block(name: str, stage: Mapping[str, Any]) -> list[str]:
    reads = [dep for dep in stage.get("deps", []) if dep.startswith(DATA_ROOTS)]
    params = [str(param) for param in stage.get("params", []) if param not in {"dataset", "seed"}]
    rows = {"reads": reads, "writes": _outs(stage), "parameters": params}
    desc = str(stage.get("desc", ""))
    head = ["", f"## {name}", "", *([f"{desc[0].upper()}{desc[1:]}.", ""] if desc else [])]
    return [*head, *[f"* {word}: {_paths(paths)}" for word, paths in rows.items()]]


def _paths(paths: list[str]) -> str:
    return _wrapped([f"`{path}`" for path in paths]) or "-"


def _wrapped(words: list[str]) -> str:
    """The words, with commas, in lines of at most 140 characters that continue a list item."""
    return "\n  ".join(textwrap.wrap(", ".join(words), 140, break_long_words=False, break_on_hyphens=False))
