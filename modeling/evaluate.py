"""Stage `evaluate`: evaluates VIP5 on the test split against VIP5 without photos, its backbone and the baselines.

Reads trained models, test prompts and complete histories; writes `metrics/<dataset>/evaluate.json`, `summary.json`,
predictions, generated explanations and hit-rate curves. Trade-off: all models are compared in one run on the same
users with the same masking of seen items, which takes three passes over the test prompts.
"""

import logging
import subprocess
import sys
from collections.abc import Sequence

from features import schema
from features.runtime import stage
from features.runtime.stage import Context
from modeling.config.evaluate import Params

log = logging.getLogger("vip5")

SECTIONS = ()
_TEST = tuple(f"prompts/test/{family}" for family in schema.FAMILIES)
_OTHERS = tuple(f"prompts/{split}/{family}" for split in ("valid", "train") for family in schema.FAMILIES)
_TABLES = (
    "sequences/users", "sequences/items", "sequences/interactions", "explanations", "candidates", "identifiers",
    "images/embeddings", "texts",
)  # fmt: skip
READS = (
    *(f"data/${{dataset}}/{name}" for name in (*_TABLES, *_TEST, *_OTHERS)),
    "models/${dataset}/pretrain",
    "models/${dataset}/train",
)
WRITES = (
    "metrics/${dataset}/evaluate.json",
    "metrics/${dataset}/summary.json",
    "data/${dataset}/predictions",
    "data/${dataset}/explanations_generated",
    "plots/${dataset}/ranks.csv",
)


def run(params: Params, context: Context) -> int:
    """Score VIP5 and the baselines on the test prompts and write metrics, predictions and explanations."""
    from modeling.baselines.run_baselines import score_baselines
    from modeling.evaluation import inputs as loading
    from modeling.evaluation import rank_prompts, results, verdict

    models, inputs = loading.load(params, context)
    scores = rank_prompts.score_models(models, inputs, params)
    users, candidates = rank_prompts.ranked_users(scores["vip5"])
    baselines = score_baselines(inputs, params, context, users=users, candidates=candidates)
    compared = results.Compared(scores=scores, baselines=baselines)
    content = results.compare(compared, inputs, params, context)
    rows = results.write_all(compared, content, params, context, READS)
    log.log(
        logging.WARNING if content["leakage"]["leaking"] else logging.INFO, "evaluate: %s", verdict.leak_line(content)
    )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m modeling.evaluate`; `--seeds N` starts `python -m modeling.repeat`."""
    parser = stage.parser_of("evaluate", run)
    parser.add_argument(
        "--seeds", type=int, metavar="N",
        help="train and evaluate with N consecutive seeds, starting at the seed of the parameters, and print mean and "
        "standard deviation; the results of the pipeline do not change",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.seeds is None:
        return stage.execute("evaluate", Params, SECTIONS, run, arguments.params)
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    command = [
        sys.executable,
        "-m",
        "modeling.repeat",
        "--params",
        str(arguments.params),
        "--seeds",
        str(arguments.seeds),
    ]
    return subprocess.run(command, check=False).returncode  # noqa: S603  # fixed arguments


if __name__ == "__main__":
    sys.exit(main())
