"""The parts of an evaluation: what is scored and compared.

Enters: tables, models and the parameters of `evaluate`. Leaves: scores by model, and the content of the metrics file.
Trade-off: one function a step, called in order by the stage, instead of an evaluator object with state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import ParamsError, TableError
from features.runtime.progress import Progress
from features.runtime.stage import Context
from modeling.baselines import counting as base
from modeling.baselines.run_baselines import Rivals
from modeling.data.prompt_dataset import PromptDataset
from modeling.evaluation.generate_explanations import Explanations, explain_prompt, explanation_block
from modeling.evaluation.inputs import Inputs
from modeling.evaluation.leakage import leakage_block
from modeling.evaluation.rank_prompts import Rankings, Search, rank_prompt, rows_by_prompt
from modeling.evaluation.user_id_leakage import by_chance, neighbour_ranks
from modeling.metrics.blocks import difference_block, ranking_block
from modeling.metrics.slices import Masks, own_slices, slices_by_model
from modeling.models.checkpoints import read_manifest
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import autocast

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one model did on every evaluated prompt."""

    sequential: Mapping[str, Rankings]
    direct: Mapping[str, Rankings]
    explanation: Mapping[str, Explanations] = field(default_factory=dict)


def chosen(ablations: Sequence[str], prompts: Sequence[str]) -> tuple[str, ...]:
    """The ablations' prompts among the evaluated ones; empty in either means all.

    Raises:
        ParamsError: no prompt is left, so that the comparison would be silently empty.
    """
    if not ablations or not prompts:
        return tuple(ablations or prompts)
    both = tuple(name for name in ablations if name in prompts or name.partition(":")[0] in prompts)
    if not both:
        raise ParamsError(
            f"evaluate.ablation_prompts {list(ablations)} outside evaluate.prompts {list(prompts)}",
            "some in common",
            "change one of them",
        )
    return both


def num_rows(corpus: PromptDataset, inputs: Inputs, prompts: Sequence[str], families: Sequence[int]) -> int:
    """Rows that `score_model` answers."""
    chosen_rows = (rows_by_prompt(corpus, family, inputs.users, prompts) for family in families)
    return sum(len(rows) for by_prompt in chosen_rows for rows in by_prompt.values())


def check_candidates(direct: Mapping[str, Rankings], inputs: Inputs) -> None:
    """Raises TableError if a direct prompt lists anything but the test item and the user's fixed negatives."""
    for key, rankings in direct.items():
        if rankings.candidates is None:
            raise TableError(
                f"no candidates in {key}", "a list of items in every row", "run `.venv/bin/dvc repro prompts`"
            )
        without = np.where(rankings.candidates == rankings.targets[:, None], 0, rankings.candidates)
        listed = np.sort(without, 1)
        fixed = inputs.negatives.padded(rankings.user_ids, fill=0)
        fixed = np.sort(np.pad(fixed, ((0, 0), (max(0, listed.shape[1] - fixed.shape[1]), 0))), 1)
        same = (listed == fixed).all(1) if listed.shape == fixed.shape else np.zeros(len(listed), bool)
        same &= (rankings.candidates == rankings.targets[:, None]).sum(1) == 1
        if not same.all():
            raise TableError(
                f"{int((~same).sum())} rows of {key} with other candidates, such as user "
                f"{int(rankings.user_ids[np.argmin(same)])}",
                "the test item once and the negatives of the table candidates",
                "run `.venv/bin/dvc repro prompts`",
            )


def score_model(
    model: VIP5,
    corpus: PromptDataset,
    inputs: Inputs,
    *,
    search: Search,
    prompts: Sequence[str],
    explanation_tokens: int | None,
    label: str,
    bar: Progress,
) -> Scores:
    """Ranks items on every evaluated sequential and direct prompt and writes explanations.

    Args:
        model: VIP5, or the backbone with a text-only corpus.
        corpus: all test prompts.
        inputs: catalogue and histories.
        search: how items are decoded.
        prompts: only these; empty for all.
        explanation_tokens: longest explanation; None writes none.
        label: what the progress line calls the model.
        bar: of the whole evaluation.
    """
    rankings: list[dict[str, Rankings]] = [
        {
            key: rank_prompt(
                model, corpus, rows, catalogue=inputs.catalogue, histories=inputs.histories, search=search,
                label=f"evaluate, {label} {key}", popular=inputs.popular if key.endswith(":history") else None, bar=bar,
            )
            for key, rows in rows_by_prompt(corpus, family, inputs.users, prompts).items()
        }
        for family in (0, 1)
    ]  # fmt: skip
    explained: dict[str, Explanations] = {}
    if explanation_tokens is not None:
        with autocast(next(model.parameters()).device, search.dtype):
            explained = {
                key: explain_prompt(
                    model, corpus, rows, batch_size=search.batch_size, max_tokens=explanation_tokens,
                    label=f"evaluate, {label} {key}", bar=bar,
                )
                for key, rows in rows_by_prompt(corpus, 2, inputs.users, prompts).items()
            }  # fmt: skip
    return Scores(sequential=rankings[0], direct=rankings[1], explanation=explained)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All that one evaluation scored."""

    vip5: Scores
    others: Mapping[str, Scores]
    """Other models by name: without_photos (where VIP5 sees photos at all), backbone."""
    rivals: Rivals

    def ranks(self, family: str, key: str) -> dict[str, IntArray]:
        """Ranks of all models and rivals but VIP5 for the users of one prompt."""
        ranks = self.rivals.aligned(family, getattr(self.vip5, family)[key].user_ids)
        for name, scores in self.others.items():
            if key in getattr(scores, family):
                ranks[name] = getattr(scores, family)[key].ranks
        return ranks

    def block(self, family: str, key: str, masks: Masks, *, resamples: int, seed: int) -> dict[str, Any]:
        """VIP5's block of one prompt, with differences to all others and slices."""
        rankings = getattr(self.vip5, family)[key]
        how = {"resamples": resamples, "seed": seed}
        block = ranking_block(rankings.ranks, **how)
        block["differences"] = difference_block(rankings.ranks, self.ranks(family, key), **how)
        block["slices"] = own_slices(rankings.ranks, masks, **how)
        return block | ({"strings": rankings.strings} if rankings.strings else {})

    def further(self, candidates: str, *, resamples: int, seed: int) -> dict[str, Any]:
        """VIP5's blocks of the direct prompts among other candidates: popular or whole."""
        blocks = {}
        for key, rankings in self.vip5.direct.items():
            if candidates in rankings.further:
                ranks = rankings.further[candidates]
                others = self.rivals.aligned(f"direct_{candidates}", rankings.user_ids)
                blocks[key] = ranking_block(ranks, resamples=resamples, seed=seed)
                blocks[key]["differences"] = difference_block(ranks, others, resamples=resamples, seed=seed)
        return blocks


def num_candidates(scores: Scores, inputs: Inputs) -> dict[str, int]:
    """How many items, the right one included, a direct prompt is ranked among, by task; the most of any user."""
    listed = [
        int((own.candidates > 0).sum(1).max(initial=0)) for own in scores.direct.values() if own.candidates is not None
    ]
    popular = int(inputs.popular.lengths.max(initial=0))
    return {"direct": max(listed, default=0), "direct_popular": popular, "direct_whole": inputs.catalogue.num_items}


def results_of(
    compared: Compared, inputs: Inputs, context: Context, *, decoding: str, resamples: int, max_copied_share: float
) -> dict[str, Any]:
    """The content of `metrics/<dataset>/evaluate.json`."""
    how = {"resamples": resamples, "seed": context.seed}
    results: dict[str, Any] = {
        "dataset": context.dataset,
        "decoding": decoding,
        "num_items": inputs.catalogue.num_items,
        "num_users": inputs.histories.num_users,
        "num_candidates": num_candidates(compared.vip5, inputs),
        "training": {stage: read_manifest(context, stage).get("training", {}) for stage in ("pretrain", "train")},
        "sequential": {},
        "direct": {},
        "direct_popular": compared.further("popular", **how),
        "direct_whole": compared.further("whole", **how),
        "explanation": _explanations(compared.vip5, inputs, how),
        "slices": {"sequential": {}, "direct": {}},
    }
    ranked = [(family, key) for family in ("sequential", "direct") for key in getattr(compared.vip5, family)]
    with Progress(len(ranked), "evaluate, intervals", "prompts") as bar:
        for family, key in ranked:
            rankings = getattr(compared.vip5, family)[key]
            masks = inputs.slices(rankings)
            results[family][key] = compared.block(family, key, masks, **how)
            models = {"VIP5": rankings.ranks} | compared.ranks(family, key)
            results["slices"][family][key] = slices_by_model(models, masks, **how)
            bar.update()
    for name, scores in compared.others.items():
        blocks = {family: _rankings(getattr(scores, family), how) for family in ("sequential", "direct")}
        if name == "without_photos":
            results |= {f"{family}_{name}": block for family, block in blocks.items()}
        else:
            results[name] = blocks | {"explanation": _explanations(scores, inputs, how)}
    results["baselines"] = {
        task: {name: ranking_block(own, **how) for name, own in ranks.items()}
        for task, ranks in compared.rivals.ranks.items()
    }
    results["baseline_notes"] = compared.rivals.notes
    results["leakage"] = _leakage(inputs, context, max_copied_share=max_copied_share, **how)
    return results


def _leakage(inputs: Inputs, context: Context, *, max_copied_share: float, resamples: int, seed: int) -> dict[str, Any]:
    """The block `leakage`: every check on the tables of this dataset."""
    everyone = np.flatnonzero(inputs.histories.targets > 0)
    return leakage_block(
        rule_ranks=base.number_rule_ranks(inputs.histories, everyone),
        rule_targets=inputs.histories.targets[everyone],
        neighbours=(
            neighbour_ranks(inputs.histories, inputs.user_numbers),
            neighbour_ranks(inputs.histories, by_chance(inputs.user_numbers, context.seed)),
        ),
        num_items=inputs.catalogue.num_items,
        histories=inputs.histories,
        interactions=inputs.interactions,
        prompts=context.table("prompts"),
        numbering=inputs.numbering,
        max_copied_share=max_copied_share,
        resamples=resamples,
        seed=seed,
    )


def _rankings(rankings: Mapping[str, Rankings], how: Mapping[str, int]) -> dict[str, Any]:
    return {key: ranking_block(own.ranks, **how) for key, own in rankings.items()}


def _explanations(scores: Scores, inputs: Inputs, how: Mapping[str, int]) -> dict[str, Any]:
    return {
        key: {"given": list(inputs.given[key])} | explanation_block(found, inputs.features, **how)
        for key, found in scores.explanation.items()
    }
