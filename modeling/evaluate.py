"""Stage `evaluate`: VIP5 on the test split, beside itself without photos, its backbone, and what needs no training.

Enters: trained models, test prompts, complete histories. Leaves: `metrics/<dataset>/evaluate.json`, predictions,
generated explanations, hit curves. Trade-off: every comparison is made in the same run on the same users with seen
items masked, so that a baseline cannot be weaker by accident; that costs three passes of the model.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from features import schema, stage
from features.progress import Progress
from features.stage import Context
from modeling.sasrec_settings import SasRecParams
from modeling.settings import RidgeParams

if TYPE_CHECKING:
    from modeling.evaluation import Scores
    from modeling.evaluation_inputs import Inputs
    from modeling.tokens import Tokens
    from modeling.vip5 import VIP5

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


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `evaluate`."""

    decoding: Literal["constrained", "unconstrained"] = "constrained"
    """constrained: existing, unseen items by a prefix tree, direct by exact likelihood; unconstrained: as the paper."""
    beam: int = 20
    """Beams a user; without effect where identifiers are one token (the whole catalogue is then ranked exactly)."""
    top_k: int = 20
    """Items kept a user and prompt."""
    batch_size: int = 64
    """Users a batch at most."""
    tokens_per_batch: int = 8192
    """Source tokens a batch at most, padding included; attention over more is slower on a CPU, faster on a GPU."""
    prompts: tuple[str, ...] = ()
    """Prompt ids to evaluate, such as [A-3, B-5]; empty for all that the test tables hold."""
    ablation_prompts: tuple[str, ...] = ("A-3", "A-9", "B-5", "C-3")
    """Which of them VIP5 without photos and the backbone answer too; empty for all."""
    max_users: int | None = None
    """Users drawn by the seed, for a quick look; null for all."""
    bootstrap_resamples: int = 1000
    """Resamples of the users behind every 95 % interval; 0 leaves intervals out."""
    recent_share: float = 0.1
    """Share of the newest train interactions that the baseline recent_popularity counts."""
    sasrec: SasRecParams | None = field(default_factory=SasRecParams)
    """The baseline that is trained in the same run; null leaves it out."""
    ridge: RidgeParams | None = field(default_factory=RidgeParams)
    """The baseline that is solved in closed form in the same run; null leaves it out."""
    max_copied_share: float = 0.05
    """Share of a family's test prompts that may be word for word in train (a person who pastes one review under several
    items); above it the family is called leaking. A prompt about the same user and item counts whatever its share."""
    explanation_max_tokens: int = 32
    """Longest generated explanation, tokens, </s> included (the paper's saved run: 20)."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads; null leaves torch's choice."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the models' passes; bfloat16 pays on hardware that has units for it."""

    def __post_init__(self) -> None:
        for name in ("beam", "top_k", "batch_size", "tokens_per_batch", "explanation_max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError("max_users must be at least 1, or null")
        if self.bootstrap_resamples < 0 or not 0 < self.recent_share <= 1:
            raise ValueError("bootstrap_resamples must be at least 0 and recent_share in (0, 1]")
        if not 0 <= self.max_copied_share <= 1:
            raise ValueError("max_copied_share must lie in [0, 1]")


def run(params: Params, context: Context) -> int:
    """Score VIP5 and the baselines on the test prompts and write metrics, predictions and explanations."""
    from modeling import evaluation as ev
    from modeling import evaluation_files as files
    from modeling import evaluation_inputs as read
    from modeling.checkpoints import load_vip5
    from modeling.devices import device_of
    from modeling.heap import keep_heap
    from modeling.rivals import score_rivals
    from modeling.verdict import leak_line

    model, tokens = load_vip5(context, device=device_of(params))
    inputs = read.load_inputs(context, tokens, max_users=params.max_users)
    read.check_vision(model, inputs)
    keep_heap()
    vip5, others = _scores(params, context, model, tokens, inputs)
    rivals = score_rivals(
        vip5.sequential.values(), vip5.direct.values(), popular=inputs.popular, histories=inputs.histories,
        interactions=inputs.interactions, content=inputs.content, recent_share=params.recent_share,
        sasrec=params.sasrec, ridge=params.ridge, dataset=context.dataset, seed=context.seed,
    )  # fmt: skip
    compared = ev.Compared(vip5=vip5, others=others, rivals=rivals)
    results = ev.results_of(
        compared, inputs, context, decoding=params.decoding, resamples=params.bootstrap_resamples,
        max_copied_share=params.max_copied_share,
    )  # fmt: skip
    rows = files.write_all(compared, results, context, params=params, reads=READS)
    log.log(logging.WARNING if results["leakage"]["leaking"] else logging.INFO, "evaluate: %s", leak_line(results))
    return rows


def _scores(
    params: Params, context: Context, model: "VIP5", tokens: "Tokens", inputs: "Inputs"
) -> "tuple[Scores, dict[str, Scores]]":
    """What VIP5, VIP5 without photos and the backbone answer, under one progress bar."""
    from modeling import evaluation as ev
    from modeling.checkpoints import load_backbone_only
    from modeling.devices import device_of
    from modeling.evaluation_inputs import test_corpus
    from modeling.rankings import Search

    search = Search(
        decoding=params.decoding, beam=params.beam, top_k=params.top_k, batch_size=params.batch_size,
        tokens_per_batch=params.tokens_per_batch, dtype=params.dtype,
    )  # fmt: skip
    some = ev.chosen(params.ablation_prompts, params.prompts)
    longest = params.explanation_max_tokens
    sees = model.visual is not None
    corpus = test_corpus(context, tokens, inputs.photos if sees else None)
    every, ranked = (0, 1, 2), (0, 1)
    asked = [(params.prompts, every), (some, every), *([(some, ranked)] if sees else [])]
    total = sum(ev.num_rows(corpus, inputs, prompts, families) for prompts, families in asked)
    others = {}
    with Progress(total, "evaluate", "test prompts") as bar:
        score = partial(ev.score_model, inputs=inputs, search=search, bar=bar)
        vip5 = score(model, corpus, prompts=params.prompts, explanation_tokens=longest, label="VIP5")
        ev.check_candidates(vip5.direct, inputs)
        if sees:
            corpus.photos = inputs.photos.withheld()
            others["without_photos"] = score(
                model, corpus, prompts=some, explanation_tokens=None, label="without photos"
            )
        backbone, tokens = load_backbone_only(context, device=device_of(params))
        text_corpus = test_corpus(context, tokens, None)
        others["backbone"] = score(backbone, text_corpus, prompts=some, explanation_tokens=longest, label="backbone")
    return vip5, others


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.evaluate`; with `--seeds N` it trains and evaluates N times."""
    parser = stage.parser_of("evaluate", run)
    parser.add_argument(
        "--seeds", type=int, metavar="N",
        help="train and evaluate N times, with the seed of the parameters and those after it, and print mean and "
        "deviation; the results of the pipeline stay as they are",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    if arguments.seeds is None:
        return stage.execute("evaluate", Params, SECTIONS, run, arguments.params)
    if arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    from modeling import seeds

    return seeds.main(arguments.params, arguments.seeds)


if __name__ == "__main__":
    sys.exit(main())
