"""Compares the scores of all models and writes the outputs of an evaluation.

Reads scores per model, the ranks of the baselines and the parameters of `evaluate`; writes `evaluate.json`,
`summary.json`, two tables and the hit-rate curves. `evaluate.json` is written last, so it never describes predictions
that are missing.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features import schema
from features.runtime.progress import Progress
from features.runtime.stage import Context
from features.store.durable import write_text
from features.store.tables import Provenance, write_table
from modeling.baselines import counting as base
from modeling.baselines.run_baselines import BaselineRanks
from modeling.config.evaluate import Params
from modeling.evaluation.generate_explanations import explanation_block
from modeling.evaluation.inputs import Inputs
from modeling.evaluation.leakage import leakage_block
from modeling.evaluation.rank_prompts import Rankings, Scores
from modeling.evaluation.sentence_baselines import blocks_by_prompt
from modeling.evaluation.summary_numbers import summary_numbers
from modeling.evaluation.user_id_leakage import neighbour_ranks, shuffled_numbers
from modeling.evaluation.verdict import verdict_lines
from modeling.metrics.ranking import difference_block, hits_by_depth, ranking_block
from modeling.metrics.reference_implementation import paper_ranking_block, paper_text_block
from modeling.metrics.slices import Masks, own_slices, slices_by_model
from modeling.models.model_manifest import read_manifest

IntArray = npt.NDArray[np.int64]
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Scores of all models and baselines of one evaluation."""

    scores: Mapping[str, Scores]
    """Models by name: vip5, backbone, and without_photos if VIP5 reads photos."""
    baselines: BaselineRanks

    @property
    def vip5(self) -> Scores:
        """Scores of VIP5."""
        return self.scores["vip5"]

    @property
    def others(self) -> dict[str, Scores]:
        """Scores of all models except VIP5."""
        return {name: scores for name, scores in self.scores.items() if name != "vip5"}

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


def compare(compared: Compared, inputs: Inputs, params: Params, context: Context) -> dict[str, Any]:
    """Returns the content of `metrics/<dataset>/evaluate.json`, without the verdict."""
    how = {"resamples": params.bootstrap_resamples, "seed": context.seed}
    results: dict[str, Any] = {
        "dataset": context.dataset,
        "decoding": params.decoding,
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
            masks = inputs.slices(rankings.user_ids, rankings.targets)
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
    shared, own = blocks_by_prompt(compared.vip5.explanation, inputs.train_sentences, inputs.content.titles, **how)
    results["baselines"]["explanation"] = shared
    for key, blocks in own.items():
        results["explanation"][key]["baselines"] = blocks
    results["baseline_notes"] = compared.baselines.notes
    results["leakage"] = _leakage(inputs, params, context)
    if params.paper_metrics:
        results["reference_implementation"] = _reference_metrics(compared.vip5, inputs.catalogue.texts)
    return results


def _reference_metrics(scores: Scores, texts: Sequence[str]) -> dict[str, Any]:
    """Returns metrics of VIP5 as the reference implementation computes them, by family and prompt."""
    blocks: dict[str, Any] = {}
    for family, cutoffs in (("sequential", (5, 10)), ("direct", (1, 5, 10))):
        blocks[family] = {}
        for key, rankings in getattr(scores, family).items():
            strings = rankings.strings or [[texts[i - 1] for i in row if i] for row in rankings.items.tolist()]
            targets = [int(texts[item - 1]) for item in rankings.targets.tolist()]
            blocks[family][key] = paper_ranking_block(strings, targets, cutoffs)
    explanations = scores.explanation.items()
    return blocks | {
        "explanation": {key: paper_text_block(each.generated, each.references) for key, each in explanations}
    }


def _leakage(inputs: Inputs, params: Params, context: Context) -> dict[str, Any]:
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
        max_copied_share=params.max_copied_share,
        resamples=params.bootstrap_resamples,
        seed=context.seed,
    )


def _rankings(rankings: Mapping[str, Rankings], how: Mapping[str, int]) -> dict[str, Any]:
    return {key: ranking_block(ranking.ranks, **how) for key, ranking in rankings.items()}


def _explanations(scores: Scores, inputs: Inputs, how: Mapping[str, int]) -> dict[str, Any]:
    return {
        key: {"given": list(inputs.given[key])} | explanation_block(explanations, **how)
        for key, explanations in scores.explanation.items()
    }


def write_all(
    compared: Compared, results: Mapping[str, Any], params: Params, context: Context, reads: Sequence[str]
) -> int:
    """Writes all outputs and returns the number of rows of `predictions`."""
    inputs = {name: context.root / Template(name).substitute(dataset=context.dataset) for name in reads}
    provenance = Provenance(stage="evaluate", params=params, inputs=inputs)
    rows = write_predictions(context.table("predictions"), compared.vip5, provenance)
    write_generated(context.table("explanations_generated"), compared.vip5, provenance)
    ranking = ("sequential", "direct")
    leaking = any(bool(results["leakage"][family]["leaks"]) for family in ranking)
    write_curves(context.plots("ranks.csv"), compared, leaking=leaking)
    written = rounded(results)
    written |= {"verdict": verdict_lines(written)}
    write_json(context.metrics("summary.json"), summary_numbers(written))
    write_json(context.metrics("evaluate.json"), written)
    return rows


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a metrics file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_predictions(folder: Path, scores: Scores, provenance: Provenance) -> int:
    """Writes the table `predictions` and returns its number of rows."""
    parts = [prediction_rows(key, rankings) for key, rankings in (*scores.sequential.items(), *scores.direct.items())]
    empty = schema.PREDICTIONS.arrow.empty_table()
    return write_table(folder, schema.PREDICTIONS, pa.concat_tables([empty, *parts]), provenance)


def prediction_rows(key: str, rankings: Rankings) -> pa.Table:
    """Returns the rows of `predictions` for the rankings of prompt `key`."""
    row, column = np.nonzero(rankings.items)
    columns = {
        "user_id": rankings.user_ids[row].astype(np.int32),
        "prompt_id": pa.repeat(key, len(row)),
        "rank": (column + 1).astype(np.int32),
        "item_id": rankings.items[row, column].astype(np.int32),
        "score": rankings.scores[row, column],
    }
    return pa.table(columns).cast(schema.PREDICTIONS.arrow)


def write_generated(folder: Path, scores: Scores, provenance: Provenance) -> int:
    """Writes the table `explanations_generated` and returns its number of rows."""
    table = schema.GENERATED
    parts = [
        pa.table({
            "user_id": explanations.user_ids.astype(np.int32),
            "prompt_id": pa.repeat(key, len(explanations.rows)),
            "item_id": explanations.item_ids.astype(np.int32),
            "generated": pa.array(explanations.generated, pa.string()),
            "reference": pa.array(explanations.references, pa.string()),
        }).cast(table.arrow)
        for key, explanations in scores.explanation.items()
    ]  # fmt: skip
    return write_table(folder, table, pa.concat_tables([table.arrow.empty_table(), *parts]), provenance)


def write_curves(path: Path, compared: Compared, *, leaking: bool) -> None:
    """Writes HR@k for k = 1 to top_k by family, prompt and model to `plots/<dataset>/ranks.csv`.

    If a ranking family leaks, every model name in the file is marked with "(leaking run)".
    """
    mark = " (leaking run)" if leaking else ""
    rows: list[list[Any]] = []
    models = {"VIP5": compared.vip5, **compared.others}
    for family in ("sequential", "direct"):
        depth = max((rankings.items.shape[1] for rankings in getattr(compared.vip5, family).values()), default=0)
        for name, scores in models.items():
            for key, rankings in getattr(scores, family).items():
                rows += _curve(family, key, name + mark, hits_by_depth(rankings.ranks, depth).tolist())
        for name, ranks in compared.baselines.ranks[family].items():
            rows += _curve(family, "any", name + mark, hits_by_depth(ranks, depth).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["family", "prompt_id", "model", "k", "hit_rate"])
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def _curve(family: str, key: str, model: str, hits: list[float]) -> list[list[Any]]:
    return [[family, key, model, k, round(hit, _DIGITS)] for k, hit in enumerate(hits, start=1)]


def rounded(value: Any) -> Any:
    """Returns `value` with every float rounded to six digits.

    Example:
        >>> rounded({"hr@1": [0.12345678]})
        {'hr@1': [0.123457]}
    """
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value
