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
from typing import Literal

from features import schema, stage
from features.stage import Context
from modeling.sasrec_settings import SasRecParams
from modeling.settings import RidgeParams

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
    """The rival that is trained in the same run; null leaves it out."""
    ridge: RidgeParams | None = field(default_factory=RidgeParams)
    """The rival that is solved in closed form in the same run; null leaves it out."""
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


def run(params: Params, context: Context) -> int:
    """Scores VIP5 and its rivals on the test prompts (--seeds N: trains and evaluates N times, mean and deviation).

    Returns the predictions written.
    """
    from modeling import evaluation as ev
    from modeling import evaluation_files as files
    from modeling import evaluation_inputs as read
    from modeling.checkpoints import load_backbone_only, load_vip5
    from modeling.devices import device_of
    from modeling.heap import keep_heap
    from modeling.rankings import Search
    from modeling.rivals import score_rivals
    from modeling.summary import number_rule_line

    device = device_of(params)
    model, tokens = load_vip5(context, device=device)
    inputs = read.load_inputs(context, tokens, max_users=params.max_users)
    read.check_vision(model, inputs)
    search = Search(
        decoding=params.decoding, beam=params.beam, top_k=params.top_k, batch_size=params.batch_size,
        tokens_per_batch=params.tokens_per_batch, dtype=params.dtype,
    )  # fmt: skip
    score = partial(ev.score_model, inputs=inputs, search=search)
    some = ev.chosen(params.ablation_prompts, params.prompts)
    longest = params.explanation_max_tokens
    sees = model.visual is not None
    corpus = read.test_corpus(context, tokens, inputs.photos if sees else None)
    keep_heap()
    vip5 = score(model, corpus, prompts=params.prompts, explanation_tokens=longest, label="VIP5")
    ev.check_candidates(vip5.direct, inputs)
    others = {}
    if sees:
        corpus.photos = inputs.photos.withheld()
        others["without_photos"] = score(model, corpus, prompts=some, explanation_tokens=None, label="without photos")
    backbone, tokens = load_backbone_only(context, device=device)
    text_corpus = read.test_corpus(context, tokens, None)
    others["backbone"] = score(backbone, text_corpus, prompts=some, explanation_tokens=longest, label="backbone")
    rivals = score_rivals(
        vip5.sequential.values(), vip5.direct.values(), popular=inputs.popular, histories=inputs.histories,
        interactions=inputs.interactions, content=inputs.content, recent_share=params.recent_share,
        sasrec=params.sasrec, ridge=params.ridge, dataset=context.dataset, seed=context.seed,
    )  # fmt: skip
    compared = ev.Compared(vip5=vip5, others=others, rivals=rivals)
    results = ev.results_of(compared, inputs, context, decoding=params.decoding, resamples=params.bootstrap_resamples)
    rows = files.write_all(compared, results, context, params=params, reads=READS)
    log.info("%s", number_rule_line(results["leakage"]))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.evaluate`; with `--seeds N` it trains and evaluates N times."""
    given = sys.argv[1:] if argv is None else argv
    if any(argument.split("=")[0] == "--seeds" for argument in given):
        from modeling import seeds

        return seeds.main(given)
    return stage.main("evaluate", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
