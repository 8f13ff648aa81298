"""`python -m modeling.repeat`: trains and evaluates with several seeds to measure the variance of the results.

Reads the tables of one dataset and `params.yaml`; writes `metrics/<dataset>/seeds.json`, and the models, predictions
and metrics of each seed to `work/seeds/<dataset>/<seed>/`. Split, numbering, prompts and candidates are fixed; weights,
batch order, dropout, SASRec and the bootstrap depend on the seed. The seeds run one after the other.
"""

import argparse
import json
import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from features.errors import VIP5Error
from features.runtime import stage
from features.runtime.faults import environment_faults
from features.runtime.remedies import for_profile
from features.schema import FAMILIES
from features.store.durable import write_text
from modeling.evaluation.result_tables import aligned

log = logging.getLogger("vip5")
TASKS = ("sequential", "direct", "direct_popular", "direct_whole", "explanation")
_OWN = ("predictions", "explanations_generated")  # written per seed, never shared
_NO_METRICS = ("num_users", "num_examples")


def run_seeds(path: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Trains and evaluates with each of `seeds`; returns mean, standard deviation and values of every metric."""
    from modeling import evaluate, pretrain, train

    results = []
    for seed in seeds:
        for module in (pretrain, train, evaluate):
            context = run_stage(module, path, seed)
        results.append(json.loads(context.metrics("evaluate.json").read_text(encoding="utf-8")))
        log.info("repeat: seed %d finished", seed)
    summary = {"dataset": results[0]["dataset"], "seeds": list(seeds)} | leaks_of(results)
    summary |= {task: spread([result.get(task, {}) for result in results]) for task in TASKS}
    summary["baselines"] = spread([result["baselines"] for result in results])
    out = stage.Places(dataset=summary["dataset"]).metrics("seeds.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(summary, indent=1) + "\n")
    return summary


def run_stage(module: ModuleType, path: Path, seed: int) -> stage.Context:
    """Runs one stage with `seed` in a separate folder that shares the dataset's tables."""
    name = module.__name__.rpartition(".")[2]
    params, context = stage.load(path, name, module.Params, module.SECTIONS)
    root = Path("work") / "seeds" / context.dataset / str(seed)
    share_tables(stage.Places(dataset=context.dataset), root)
    context = replace(context, root=root, seed=seed)
    module.run(params, context)
    return context


def share_tables(places: stage.Places, root: Path) -> None:
    """Symlinks every table of the dataset into `root`, except those that an evaluation writes."""
    source, target = places.table(""), root / "data" / places.dataset
    target.mkdir(parents=True, exist_ok=True)
    for folder in sorted(source.iterdir()):
        link = target / folder.name
        if folder.name not in _OWN and not link.exists():
            link.symlink_to(folder.resolve(), target_is_directory=True)


def leaks_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns `leaking`, the families that leak in any run, and the distinct reasons."""
    leakage = [result["leakage"] for result in results]
    reasons = dict.fromkeys(reason for block in leakage for reason in block["reasons"])
    return {
        "leaking": any(bool(block["leaking"]) for block in leakage),
        "leaking_families": [family for family in FAMILIES if any(block[family]["leaks"] for block in leakage)],
        "leak_reasons": list(reasons),
    }


def spread(blocks: Sequence[Any]) -> dict[str, Any]:
    """Returns mean, sample standard deviation (n - 1) and values of every number in all blocks, nested alike.

    Example: [{"A-3": {"hr@10": 0.2, "num_users": 9}}, {"A-3": {"hr@10": 0.4, "num_users": 9}}] gives
    {"A-3": {"hr@10": {"mean": 0.3, "deviation": 0.141421, "values": [0.2, 0.4]}}}
    """
    result: dict[str, Any] = {}
    for key in blocks[0]:
        values = [block[key] for block in blocks if key in block]
        if len(values) < len(blocks) or key in {"ci95", "differences", "slices", "strings", *_NO_METRICS}:
            continue
        if isinstance(values[0], Mapping):
            result[key] = spread(values)
        elif isinstance(values[0], int | float) and not isinstance(values[0], bool):
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            mean = statistics.fmean(values)
            result[key] = {"mean": round(mean, 6), "deviation": round(deviation, 6), "values": values}
    return result


def table(results: Mapping[str, Any], metrics: Sequence[str] = ("hr@10", "ndcg@10")) -> list[str]:
    """Returns lines with mean and standard deviation per model and ranking task."""
    lines: list[str] = []
    for task in TASKS[:-1]:
        mark = "LEAKING " if task.partition("_")[0] in results["leaking_families"] else ""
        baselines = results["baselines"].get(task, {})
        rows = [
            [name, *(f"{block[m]['mean']:.4f} +- {block[m]['deviation']:.4f}" for m in metrics)]
            for name, block in ({f"VIP5 {key}": result for key, result in results[task].items()} | baselines).items()
        ]
        if results[task]:
            title = f"{mark}{task}, {len(results['seeds'])} training seeds"
            lines += [*aligned([[title, *(m.upper() for m in metrics)], *rows]), ""]
    return lines + [f"LEAKING: {reason}" for reason in results["leak_reasons"]]


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, evaluates, prints mean and standard deviation of the results, and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m modeling.repeat",
        description="Train and evaluate with several seeds and print mean and standard deviation of every metric. "
        "The results of the pipeline do not change.",
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="YAML file of parameters (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N",
        help="number of consecutive seeds, starting at the seed of the parameters (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    stage.configure_logging()
    from modeling import evaluate
    from modeling.config.evaluate import Params

    try:
        with environment_faults():
            _, context = stage.load(arguments.params, "evaluate", Params, evaluate.SECTIONS)
            summary = run_seeds(arguments.params, range(context.seed, context.seed + arguments.seeds))
    except VIP5Error as error:
        log.error("repeat: %s", for_profile(error, arguments.params))
        return error.exit_code
    sys.stdout.write("\n".join(table(summary)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
