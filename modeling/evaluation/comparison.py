"""Scores models on the test prompts and compares them.

Reads tables, models and the parameters of `evaluate`; returns scores per model and the content of `evaluate.json`. The
stage calls one function per step, in order.
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
from modeling.baselines.run_baselines import BaselineRanks
from modeling.data.prompt_dataset import PromptDataset
from modeling.evaluation.generate_explanations import Explanations, explain_prompt, explanation_block
from modeling.evaluation.inputs import Inputs
from modeling.evaluation.leakage import leakage_block
from modeling.evaluation.rank_prompts import Rankings, Search, rank_prompt, rows_by_prompt
from modeling.evaluation.user_id_leakage import neighbour_ranks, shuffled_numbers
from modeling.metrics.blocks import difference_block, ranking_block
from modeling.metrics.slices import Masks, own_slices, slices_by_model
from modeling.models.checkpoints import read_manifest
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import autocast

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Rankings and explanations of one model on every evaluated prompt."""

    sequential: Mapping[str, Rankings]
    direct: Mapping[str, Rankings]
    explanation: Mapping[str, Explanations] = field(default_factory=dict)


def select_ablations(ablations: Sequence[str], prompts: Sequence[str]) -> tuple[str, ...]:
    """Returns the ablation prompts that are also evaluated; an empty list means all prompts.

    Raises:
        ParamsError: no prompt is left to compare.
    """
    if not ablations or not prompts:
        return tuple(ablations or prompts)
    selected = tuple(name for name in ablations if name in prompts or name.partition(":")[0] in prompts)
    if not selected:
        raise ParamsError(
            f"evaluate.ablation_prompts {list(ablations)} outside evaluate.prompts {list(prompts)}",
            "at least one prompt in common",
            "change one of the two parameters",
        )
    return selected


def num_rows(corpus: PromptDataset, inputs: Inputs, prompts: Sequence[str], families: Sequence[int]) -> int:
    """Returns the number of prompt rows that `score_model` processes."""
    by_family = (rows_by_prompt(corpus, family, inputs.users, prompts) for family in families)
    return sum(len(rows) for by_prompt in by_family for rows in by_prompt.values())


def check_candidates(direct: Mapping[str, Rankings], inputs: Inputs) -> None:
    """Raises TableError if the candidates of a direct prompt are not the test item and the user's fixed negatives."""
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
    """Ranks items for every evaluated sequential and direct prompt and generates explanations.

    Args:
        model: VIP5, or the backbone with a text-only corpus.
        corpus: all test prompts.
        inputs: catalogue and histories.
        search: decoding parameters.
        prompts: keys of the prompts to evaluate; empty for all.
        explanation_tokens: longest explanation, tokens; None skips explanations.
        label: model name in the progress bar.
        bar: progress bar of the whole evaluation.
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
    """Scores of all models and baselines of one evaluation."""

    vip5: Scores
    others: Mapping[str, Scores]
    """Other models by name: backbone, and without_photos if VIP5 reads photos."""
    baselines: BaselineRanks

    def ranks(self, family: str, key: str) -> dict[str, IntArray]:
        """Returns ranks of all baselines and models except VIP5 for the users of one prompt."""
        ranks = self.baselines.aligned(family, getattr(self.vip5, family)[key].user_ids)
        for name, scores in self.others.items():
            if key in getattr(scores, family):
                ranks[name] = getattr(scores, family)[key].ranks
        return ranks

    def block(self, family: str, key: str, masks: Masks, *, resamples: int, seed: int) -> dict[str, Any]:
        """Returns VIP5's metric block of one prompt, with differences to all other models and with slices."""
        rankings = getattr(self.vip5, family)[key]
        how = {"resamples": resamples, "seed": seed}
        block = ranking_block(rankings.ranks, **how)
        block["differences"] = difference_block(rankings.ranks, self.ranks(family, key), **how)
        block["slices"] = own_slices(rankings.ranks, masks, **how)
        return block | ({"strings": rankings.invalid_shares} if rankings.invalid_shares else {})

    def other_candidate_set(self, candidates: str, *, resamples: int, seed: int) -> dict[str, Any]:
        """Returns VIP5's blocks of the direct prompts over another candidate set: popular or whole."""
        blocks = {}
        for key, rankings in self.vip5.direct.items():
            if candidates in rankings.other_candidate_sets:
                ranks = rankings.other_candidate_sets[candidates]
                others = self.baselines.aligned(f"direct_{candidates}", rankings.user_ids)
                blocks[key] = ranking_block(ranks, resamples=resamples, seed=seed)
                blocks[key]["differences"] = difference_block(ranks, others, resamples=resamples, seed=seed)
        return blocks


def num_candidates(scores: Scores, inputs: Inputs) -> dict[str, int]:
    """Returns the number of candidates, target included, by direct task; the maximum over users."""
    counts = [
        int((ranking.candidates > 0).sum(1).max(initial=0))
        for ranking in scores.direct.values()
        if ranking.candidates is not None
    ]
    popular = int(inputs.popular.lengths.max(initial=0))
    return {"direct": max(counts, default=0), "direct_popular": popular, "direct_whole": inputs.catalogue.num_items}


def results_of(
    compared: Compared, inputs: Inputs, context: Context, *, decoding: str, resamples: int, max_copied_share: float
) -> dict[str, Any]:
    """Returns the content of `metrics/<dataset>/evaluate.json`."""
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
        "direct_popular": compared.other_candidate_set("popular", **how),
        "direct_whole": compared.other_candidate_set("whole", **how),
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
        task: {name: ranking_block(task_ranks, **how) for name, task_ranks in ranks.items()}
        for task, ranks in compared.baselines.ranks.items()
    }
    results["baseline_notes"] = compared.baselines.notes
    results["leakage"] = _leakage(inputs, context, max_copied_share=max_copied_share, **how)
    return results


def _leakage(inputs: Inputs, context: Context, *, max_copied_share: float, resamples: int, seed: int) -> dict[str, Any]:
    """Returns the block `leakage`: all checks on the tables of this dataset."""
    users = np.flatnonzero(inputs.histories.targets > 0)
    return leakage_block(
        rule_ranks=base.number_rule_ranks(inputs.histories, users),
        rule_targets=inputs.histories.targets[users],
        neighbours=(
            neighbour_ranks(inputs.histories, inputs.user_numbers),
            neighbour_ranks(inputs.histories, shuffled_numbers(inputs.user_numbers, context.seed)),
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
    return {key: ranking_block(ranking.ranks, **how) for key, ranking in rankings.items()}


def _explanations(scores: Scores, inputs: Inputs, how: Mapping[str, int]) -> dict[str, Any]:
    return {
        key: {"given": list(inputs.given[key])} | explanation_block(explanations, inputs.features, **how)
        for key, explanations in scores.explanation.items()
    }
