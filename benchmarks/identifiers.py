"""Compares identifier schemes on one dataset; each scheme has its own prompts and models, all other tables are shared.

Reads a workspace whose stages up to `candidates` and `texts` have run (`data/<dataset>/`), and its parameters; writes
`work/identifiers/<dataset>/<scheme>/` with `found.json`, and prints a table and one JSON object. Trade-off: training
time is fixed instead of steps, so schemes with longer identifiers train for fewer steps; the last weights are used,
because only one-token schemes can select a checkpoint by hit rate.

    .venv/bin/python -m benchmarks.identifiers --profile toys [--pretrain-seconds 300] [--train-seconds 180] \
        [--max-users 3000]

Hit rates are those of the constrained search. The unconstrained search is the published one with 20 beams over the
whole vocabulary; its valid share is the share of outputs that are an item. Codebook use is the number of values used
per code level, without the last level, which only resolves collisions.
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from benchmarks.measured import measure, python
from features.errors import InputError
from features.identifiers import enough_values
from features.runtime import stage
from features.runtime.params import merge
from features.runtime.profiles import merged
from features.runtime.seeds import rng
from features.schema import IDENTIFIERS
from features.store.tables import read_manifest, read_table
from modeling import evaluate
from modeling.config.evaluate import Params as EvaluateParams
from modeling.evaluation.inputs import load, rows_by_prompt
from modeling.evaluation.rank_prompts import rank_prompt
from modeling.evaluation.result_tables import aligned
from modeling.metrics.bootstrap import intervals
from modeling.metrics.ranking import by_user
from modeling.runtime.malloc import tune_malloc

SCHEMES = ("number", "token", "semantic", "collaborative")
SHARED = ("sequences", "explanations", "candidates", "images", "texts")
STAGES = ("features.identifiers", "pipelines.prompts", "modeling.pretrain", "modeling.train")
METRICS = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings shared by all schemes."""

    pretrain_seconds: float
    train_seconds: float
    max_users: int
    """Maximum number of test users, sampled by the seed."""
    free_users: int
    """Number of these users that are also ranked by unconstrained search; 0 skips it."""
    prompt: str
    resamples: int = 1000


def prepare(folder: Path, source: Path, params: Mapping[str, Any], scheme: str, settings: Settings) -> None:
    """Creates a workspace with its own parameters that shares the tables and raw files of the dataset.

    Raises:
        InputError: a shared table is missing.
    """
    dataset = str(params["dataset"])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data" / dataset).mkdir(parents=True)
    for name in SHARED:
        table = source / "data" / dataset / name
        if not table.is_dir():
            raise InputError(f"no {table}", "the tables of the data stages", "run the pipeline of this dataset first")
        (folder / "data" / dataset / name).symlink_to(table.resolve(), target_is_directory=True)
    if (source / "data" / "raw").is_dir():  # it may contain the tokenizer of a backbone
        (folder / "data" / "raw").symlink_to((source / "data" / "raw").resolve(), target_is_directory=True)
    own: dict[str, Any] = {
        "identifiers": {"scheme": scheme},
        "pretrain": {
            "schedule": {"max_seconds": settings.pretrain_seconds},
            "validation": {"checkpoint_metric": "last"},
            **(
                {"item_embedding_init": "random"} if scheme == "number" else {}
            ),  # plain numbers have no tokens of their own
        },
        "train": {"schedule": {"max_seconds": settings.train_seconds}, "validation": {"checkpoint_metric": "last"}},
    }
    if scheme == "number" and (params["backbone"].get("scratch") or {}).get("init") == "recency":  # for the same reason
        own["backbone"] = {"scratch": {"init": "identity"}}
    plain = json.loads(json.dumps(merge(params, own)))  # without YAML's anchors
    (folder / "params.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def codebook(context: stage.Context, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the output of the stage `identifiers`: tokens per item, collisions, and values used per code."""
    notes = read_manifest(context.table("identifiers"))["notes"]
    found = {"tokens": notes["tokens"], "collisions": notes["collisions"], "code_length": notes["code_length"]}
    if notes["scheme"] in {"semantic", "collaborative"}:
        codes = np.array(read_table(context.table("identifiers"), IDENTIFIERS, columns=("code",))["code"].to_pylist())
        size = params["identifiers"].get("codebook_size") or enough_values(len(codes), codes.shape[1] - 1)
        found["used"] = [f"{len(np.unique(column))}/{size}" for column in codes.T[:-1]]
    return found


def rank(context: stage.Context, settings: Settings, params: EvaluateParams) -> dict[str, Any]:
    """Ranks the users with VIP5; returns metrics with intervals, invalid shares and users per CPU-second."""
    search = replace(
        params, decoding="constrained", dtype="float32", device="cpu", num_threads=None, max_users=None
    )  # fmt: skip
    models, inputs = load(search, context)
    model, corpus = models[0].model, models[0].dataset
    rows = rows_by_prompt(corpus, 0, inputs.users, [settings.prompt])[settings.prompt]
    rows = np.sort(rng(context.seed, "identifier comparison").permutation(rows)[: settings.max_users])

    def answer(chosen: npt.NDArray[np.int64], how: EvaluateParams) -> Any:
        return rank_prompt(
            model, corpus, chosen, catalogue=inputs.catalogue, histories=inputs.histories, params=how,
            label=settings.prompt,
        )  # fmt: skip

    started = time.process_time()
    ranked = answer(rows, search)
    seconds = time.process_time() - started
    values = {name: own for name, own in by_user(ranked.ranks, (5, 10)).items() if name in METRICS}
    limits = intervals(values, resamples=settings.resamples, seed=context.seed)
    free = answer(rows[: settings.free_users], replace(search, decoding="unconstrained")).invalid_shares
    return {
        "identifier_tokens": inputs.catalogue.tree.depth,
        "num_users": len(rows),
        "users_per_cpu_second": round(len(rows) / seconds, 1),
        **{name: round(float(own.mean()), 4) for name, own in values.items()},
        "ci95": {name: [round(limit, 4) for limit in own] for name, own in limits.items()},
        "free": {name: round(share, 4) for name, share in free.items()} if settings.free_users else {},
    }


def compare(params: Mapping[str, Any], schemes: Sequence[str], root: Path, settings: Settings) -> dict[str, Any]:
    """Trains and evaluates every scheme; returns the results by scheme."""
    tune_malloc()
    found = {}
    for scheme in schemes:
        folder = root / str(params["dataset"]) / scheme
        prepare(folder, Path(), params, scheme, settings)
        costs = {}
        for module in STAGES:
            name = module.rpartition(".")[2]
            cost = measure(python("-m", module, "--params", "params.yaml"), folder, folder / f"{name}.log")
            costs[name] = {"seconds": round(cost.seconds, 1), "cpu_seconds": round(cost.cpu_seconds, 1)}
        own, context = stage.load(folder / "params.yaml", "evaluate", EvaluateParams, evaluate.SECTIONS)
        context = replace(context, root=folder)
        training = {name: json.loads(context.metrics(f"{name}.json").read_bytes()) for name in ("pretrain", "train")}
        found[scheme] = {
            **codebook(context, params), **rank(context, settings, own), "stages": costs, "training": training,
        }  # fmt: skip
        (folder / "found.json").write_text(json.dumps(found[scheme], indent=1), encoding="utf-8")
        print(f"{scheme}: HR@10 {found[scheme]['hr@10']}, details in {folder / 'found.json'}", flush=True)
    return found


def table(found: Mapping[str, Any], prompt: str) -> list[str]:
    """Formats the comparison as lines."""
    header = [
        prompt, *(name.upper() for name in METRICS), "valid", "valid, unconstrained", "tokens per item", "codebook use",
        "collisions", "users per CPU-second",
    ]  # fmt: skip
    rows = [header]
    for scheme, own in found.items():
        free = f"{1 - own['free']['invalid_share']:.3f}" if own["free"] else "-"
        metrics = [f"{own[name]:.4f} [{own['ci95'][name][0]:.4f}, {own['ci95'][name][1]:.4f}]" for name in METRICS]
        rows.append([
            scheme, *metrics, "1.000", free, str(own["identifier_tokens"]), " ".join(own.get("used", ["-"])),
            str(own["collisions"]), str(own["users_per_cpu_second"]),
        ])  # fmt: skip
    return aligned(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison of identifier schemes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--profile", nargs="*", default=[], help="profiles/NAME.yaml over params.yaml (default: none)")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--pretrain-seconds", type=float, default=300)
    parser.add_argument("--train-seconds", type=float, default=180)
    parser.add_argument("--max-users", type=int, default=3000)
    parser.add_argument("--free-users", type=int, default=64)
    parser.add_argument("--prompt", default="A-3", help="a sequential prompt (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the ranking (default: %(default)s)")
    parser.add_argument("--root", type=Path, default=Path("work/identifiers"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    settings = Settings(
        pretrain_seconds=arguments.pretrain_seconds, train_seconds=arguments.train_seconds,
        max_users=arguments.max_users, free_users=arguments.free_users, prompt=arguments.prompt,
    )  # fmt: skip
    params = merged(arguments.profile, Path(__file__).parents[1])
    found = compare(params, arguments.schemes, arguments.root, settings)
    print("\n".join([*table(found, arguments.prompt), "", json.dumps(found, indent=1)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
