"""Stage `evaluate`: evaluates VIP5 on the test split against VIP5 without photos, its backbone and the baselines.

Reads trained models, test prompts and complete histories; writes `metrics/<dataset>/evaluate.json`, `summary.json`,
predictions, generated explanations and hit-rate curves. Trade-off: all models are compared in one run on the same
users with the same masking of seen items, which costs three passes over the test prompts.
"""

import logging
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from features import schema
from features.runtime import stage
from features.runtime.progress import Progress
from features.runtime.stage import Context
from modeling.config.evaluate import Params

if TYPE_CHECKING:
    from modeling.data.tokenizer import VIP5Tokenizer
    from modeling.evaluation.comparison import Scores
    from modeling.evaluation.inputs import Inputs
    from modeling.models.vip5 import VIP5

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
    from modeling.evaluation import comparison as ev
    from modeling.evaluation import inputs as read
    from modeling.evaluation import outputs as files
    from modeling.evaluation.rank_prompts import listed_candidates, users_of
    from modeling.evaluation.verdict import leak_line
    from modeling.models.checkpoints import load_vip5
    from modeling.runtime.devices import device_of
    from modeling.runtime.malloc import tune_malloc

    model, tokens = load_vip5(context, device=device_of(params))
    inputs = read.load_inputs(context, tokens, max_users=params.max_users)
    read.check_vision(model, inputs)
    tune_malloc()
    vip5, others = _scores(params, context, model, tokens, inputs)
    users = {family: users_of(getattr(vip5, family).values()) for family in ("sequential", "direct")}
    baselines = score_baselines(
        users=users, candidates=listed_candidates(vip5.direct.values(), users["direct"]), popular=inputs.popular,
        histories=inputs.histories,
        interactions=inputs.interactions, content=inputs.content, recent_share=params.recent_share,
        sasrec=params.sasrec, ridge=params.ridge, dataset=context.dataset, seed=context.seed,
    )  # fmt: skip
    compared = ev.Compared(vip5=vip5, others=others, baselines=baselines)
    results = ev.results_of(
        compared, inputs, context, decoding=params.decoding, resamples=params.bootstrap_resamples,
        max_copied_share=params.max_copied_share,
    )  # fmt: skip
    rows = files.write_all(compared, results, context, params=params, reads=READS)
    log.log(logging.WARNING if results["leakage"]["leaking"] else logging.INFO, "evaluate: %s", leak_line(results))
    return rows


def _scores(
    params: Params, context: Context, model: "VIP5", tokens: "VIP5Tokenizer", inputs: "Inputs"
) -> "tuple[Scores, dict[str, Scores]]":
    """Scores VIP5, VIP5 without photos and the backbone under one progress bar."""
    from modeling.evaluation import comparison as ev
    from modeling.evaluation.inputs import test_corpus
    from modeling.evaluation.rank_prompts import Search
    from modeling.models.checkpoints import load_backbone_only
    from modeling.runtime.devices import device_of

    search = Search(
        decoding=params.decoding, beam=params.beam, top_k=params.top_k, batch_size=params.batch_size,
        tokens_per_batch=params.tokens_per_batch, dtype=params.dtype,
    )  # fmt: skip
    ablations = ev.select_ablations(params.ablation_prompts, params.prompts)
    max_tokens = params.explanation_max_tokens
    has_vision = model.visual is not None
    corpus = test_corpus(context, tokens, inputs.photos if has_vision else None)
    all_families, ranking_families = (0, 1, 2), (0, 1)
    passes: list[tuple[tuple[str, ...], tuple[int, ...]]] = [(params.prompts, all_families), (ablations, all_families)]
    passes += [(ablations, ranking_families)] if has_vision else []
    total = sum(ev.num_rows(corpus, inputs, prompts, families) for prompts, families in passes)
    others = {}
    with Progress(total, "evaluate", "test prompts") as bar:
        score = partial(ev.score_model, inputs=inputs, search=search, bar=bar)
        vip5 = score(model, corpus, prompts=params.prompts, explanation_tokens=max_tokens, label="VIP5")
        ev.check_candidates(vip5.direct, inputs)
        if has_vision:
            corpus.photos = inputs.photos.withheld()
            others["without_photos"] = score(
                model, corpus, prompts=ablations, explanation_tokens=None, label="without photos"
            )
        backbone, tokens = load_backbone_only(context, device=device_of(params))
        text_corpus = test_corpus(context, tokens, None)
        others["backbone"] = score(
            backbone, text_corpus, prompts=ablations, explanation_tokens=max_tokens, label="backbone"
        )
    return vip5, others


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
