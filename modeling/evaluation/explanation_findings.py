"""Derives the findings on explanations: BLEU-4 against sentence baselines, and collapsed output.

Reads the content of `evaluate.json`; returns `Finding`s. A prompt that names the feature word is compared with every
baseline, another one with the baselines that do not know it.
"""

from collections.abc import Mapping
from typing import Any

from modeling.evaluation.finding import Finding, State

Results = Mapping[str, Any]
SENTENCE_BASELINES = {
    "commonest": "the commonest sentence", "central": "the most central sentence",
    "nearest_title": "the sentence of the nearest title",
    "commonest_of_feature": "the commonest sentence of the feature",
    "central_of_feature": "the most central sentence of the feature",
    "random_of_feature": "a random sentence of the feature",
}  # fmt: skip
FEWEST_DISTINCT, MOST_EMPTY = 5.0, 20.0
"""Percent of a prompt's sentences; fewer distinct or more empty ones are a collapse."""


def explanation_findings(results: Results) -> list[Finding]:
    """Returns the main results of the family, collapsed prompts, and prompts that do not clearly beat a baseline."""
    fallen = [key for key in results["explanation"] if collapsed(results["explanation"][key])]
    varied = [key for key in results["explanation"] if key not in fallen and _measured(results["explanation"][key])]
    found: list[Finding] = []
    if fallen:
        found.append(Finding("bad", f"Bad: explanations collapsed: {'; '.join(_variety(results, k) for k in fallen)}."))
    found += [finding for key in main_explanations(results) if key not in fallen for finding in _behind(results, key)]
    if varied and not any(finding.state == "bad" for finding in found):
        found.append(Finding("good", f"Explanations vary: {'; '.join(_variety(results, key) for key in varied)}."))
    return [*_main_results(results, fallen), *found]


def main_explanations(results: Results) -> list[str]:
    """Returns the prompts that the verdict names: one that gives the feature word (C-12), one that does not (C-3)."""
    blocks = {key: block for key, block in results["explanation"].items() if "bleu4" in block}
    chosen: list[str] = []
    for wanted, hinted in (("C-12", True), ("C-3", False)):
        keys = [key for key, block in blocks.items() if ("feature" in block.get("given", ())) == hinted]
        chosen += [wanted] if wanted in keys else keys[:1]
    return chosen


def sentence_baseline_blocks(results: Results, key: str) -> Mapping[str, Any]:
    """Returns the blocks of the sentence baselines that a prompt is compared with."""
    block = results["explanation"].get(key, {})
    blocks = block.get("baselines", results["baselines"].get("explanation", {}))
    knows = "feature" in block.get("given", ())
    return {name: other for name, other in blocks.items() if knows or not other["hinted"]}


def best_sentence_baseline(results: Results, key: str) -> str:
    """Returns the name of the baseline with the highest BLEU-4 that a prompt is compared with; "" without any."""
    blocks = sentence_baseline_blocks(results, key)
    return max(blocks, key=lambda name: blocks[name]["bleu4"], default="")


def explanation_scores(results: Results) -> tuple[float | None, float | None]:
    """Returns BLEU-4 of C-12 and of its best baseline; None if not measured."""
    best = best_sentence_baseline(results, "C-12")
    bleu = results["explanation"].get("C-12", {}).get("bleu4")
    return bleu, sentence_baseline_blocks(results, "C-12")[best]["bleu4"] if best else None


def collapsed(block: Results) -> bool:
    """Returns whether fewer than 5 % of a prompt's sentences are distinct, or more than 20 % are empty."""
    return _measured(block) and (block["distinct_sentences"] < FEWEST_DISTINCT or block["empty"] > MOST_EMPTY)


def score(value: float) -> str:
    """Formats a percentage: an integer from 10 on, one decimal below.

    Example:
        >>> score(42.61), score(2.26), score(0.0)
        ('43', '2.3', '0')
    """
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def _measured(block: Results) -> bool:
    return bool(block["num_examples"]) and "distinct_sentences" in block and "empty" in block


def _variety(results: Results, key: str) -> str:
    """Example: "C-12 writes 4 different sentences for 109 reviews, 3 % empty"."""
    block = results["explanation"][key]
    count, empty = block["num_examples"], block["empty"]
    different = max(1, round(block["distinct_sentences"] * count / 100))
    text = f"{key} writes {different:,} different {'sentences' if different > 1 else 'sentence'} for {count:,} reviews"
    return text + (f", {empty:.0f} % empty" if empty else "")


def _main_results(results: Results, fallen: list[str]) -> list[Finding]:
    found: list[Finding] = []
    for key in main_explanations(results):
        block, best = results["explanation"][key], best_sentence_baseline(results, key)
        given = f", {' and '.join(block['given'])} given" if block["given"] else ""
        text = f"VIP5 writes explanations with BLEU-4 {score(block['bleu4'])} ({key}{given})"
        if best:
            which = "best sentence baseline" if "feature" in block["given"] else "best baseline without the feature"
            other = sentence_baseline_blocks(results, key)[best]["bleu4"]
            text += f"; {which} {score(other)} by {SENTENCE_BASELINES[best]}"
        found.append(Finding("bad" if key in fallen else _state(results, key, best), f"{text}."))
    return found


def _behind(results: Results, key: str) -> list[Finding]:
    """Returns a finding if the best baseline of a prompt is ahead, or if the 95 % intervals overlap."""
    best = best_sentence_baseline(results, key)
    state = _state(results, key, best)
    if state == "good":
        return []
    block, other = results["explanation"][key], sentence_baseline_blocks(results, key)[best]
    name, scores = SENTENCE_BASELINES[best], f"(BLEU-4 {_span(block)} against {_span(other)})"
    text = (
        f"Bad: explanations ({key}) are further from the reviews than {name} {scores}."
        if state == "bad"
        else f"Weak: explanations ({key}) are not clearly closer to the reviews than {name} {scores}."
    )
    return [Finding(state, text)]


def _state(results: Results, key: str, best: str) -> State:
    """Returns good if VIP5's interval lies above the baseline's or there is no baseline, bad if below, else weak."""
    if not best:
        return "good"
    low, high = _limits(results["explanation"][key])
    other_low, other_high = _limits(sentence_baseline_blocks(results, key)[best])
    return "good" if low > other_high else "bad" if high < other_low else "weak"


def _limits(block: Results) -> tuple[float, float]:
    low, high = block.get("ci95", {}).get("bleu4", (block["bleu4"], block["bleu4"]))
    return low, high


def _span(block: Results) -> str:
    low, high = _limits(block)
    return score(low) if low == high else f"{score(low)} to {score(high)}"
