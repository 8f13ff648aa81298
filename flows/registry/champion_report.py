"""Formats the promoted models of a dataset as text: date, code, data, metric and best baseline.

A damaged model folder is reported as one line.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import VIP5Error
from features.store.manifests import MANIFEST
from flows.registry import model_registry
from flows.registry.quality_gate import GateParams, comparison
from modeling.serving import promoted_model
from modeling.serving.promoted_model import Champion


def report(name: str, root: Path = Path()) -> list[str]:
    """Lists every promoted model, oldest first, and marks the champion."""
    models = model_registry.promoted_models(name, root)
    if not models:
        return [f"{name}: no model was promoted yet; `.venv/bin/python -m flows.retrain {name}` trains and judges one"]
    now = _champion_digest(name, root)
    lines = [f"{name}: {len(models)} promoted {'model' if len(models) == 1 else 'models'}, oldest first"]
    for model in models:
        is_champion = model.digest == now
        lines += ["", f"{'*' if is_champion else '-'} {model.digest}{'  the champion' if is_champion else ''}"]
        lines += [f"    {label:<11}{text}" for label, text in _facts(model)]
    return lines


def _champion_digest(name: str, root: Path) -> str | None:
    """The digest in the champion pointer, even if its folder is damaged; None if there is no readable pointer."""
    try:
        pointer = json.loads(promoted_model.pointer_path(name, root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return pointer.get("digest") if isinstance(pointer, dict) else None


def _facts(model: Champion) -> list[tuple[str, str]]:
    facts = [("promoted", f"{model.promoted_at}, run {model.about.get('run')}"), ("code", _code(model.about))]
    try:
        promoted_model.check(model.folder)
    except VIP5Error as error:
        return [*facts, ("DAMAGED", error.found)]
    metrics = json.loads(model.places.metrics("evaluate.json").read_text(encoding="utf-8"))
    return [*facts, ("data", _data(model, metrics)), *_quality(model, metrics)]


def _code(about: Mapping[str, Any]) -> str:
    git = about.get("git") or {}
    if not git.get("revision"):
        return "no Git revision known"
    return f"git {git['revision'][:12]}{', with changes that were not committed' if git.get('dirty') else ''}"


def _data(model: Champion, metrics: Mapping[str, Any]) -> str:
    counts = [f"{metrics[key]:,} {key.removeprefix('num_')}" for key in ("num_users", "num_items") if key in metrics]
    path = model.places.table("sequences/interactions") / MANIFEST
    if path.is_file():
        counts.append(f"{json.loads(path.read_text(encoding='utf-8'))['rows']:,} interactions")
    digests = model.about.get("data") or {}
    named = {"dump": digests.get("raw"), "interactions": digests.get("sequences/interactions")}
    versions = [f"{what} {found[:8]}" for what, found in named.items() if found]
    return ", ".join(counts or ["no counts"]) + (f" ({', '.join(versions)})" if versions else "")


def _quality(model: Champion, metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The gate's metric and the best baseline of the same run, with 95 % confidence intervals."""
    asked = model.about.get("params", {}).get("retrain", {}).get("gate") or {}
    family, prompt, metric = (asked.get(key, getattr(GateParams, key)) for key in ("family", "prompt", "metric"))
    block = metrics.get(family, {}).get(prompt)
    if block is None:
        return [("metric", f"{prompt} {metric} was not measured")]
    found = [("metric", f"{prompt} {metric} {_value(block, metric)}")]
    others = {name: own for name, own in metrics.get("baselines", {}).get(family, {}).items() if metric in own}
    if not others:
        return [*found, ("baselines", "none was measured")]
    best = max(others, key=lambda name: float(others[name][metric]))
    gap = block.get("differences", {}).get(best, {}).get(metric)
    against = f"; the model against it: {comparison(gap)}" if gap else ""
    return [*found, ("baseline", f"{best} {_value(others[best], metric)}, the best of {len(others)}{against}")]


def _value(block: Mapping[str, Any], metric: str) -> str:
    low, high = block.get("ci95", {}).get(metric, (None, None))
    return f"{block[metric]:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]")
