"""Inputs, manifest entries and checkpoint folders that both training stages share.

Reads a stage's parameters and context; returns paths and manifest entries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from features import schema
from features.runtime.params import digest
from features.runtime.stage import Context
from features.store.tables import input_digest
from modeling.config.training import without_run_only


def prompt_tables(context: Context, split: str, families: Sequence[str] = schema.FAMILIES) -> list[Path]:
    """Paths of the prompt tables of `split`, one per family; language has a table in train alone."""
    return [context.table(name) for name in prompt_names(split, families)]


def prompt_names(split: str, families: Sequence[str] = schema.FAMILIES) -> list[str]:
    """Names of the prompt tables of `split`, in the order of the schema.

    Example:
        >>> prompt_names("train", ["language", "direct"])
        ['prompts/train/direct', 'prompts/train/language']
    """
    return [f"prompts/{s}/{family}" for s, family in schema.PROMPT_TABLES if s == split and family in families]


def manifest_of(params: object, context: Context, tables: Sequence[str]) -> dict[str, Any]:
    """Manifest entries of both training stages: parameters, seed and digests of the input tables."""
    return {
        "params_digest": digest(params),
        "params": asdict(params),  # type: ignore[call-overload]  # every Params is a dataclass
        "seed": context.seed,
        "tables": {name: input_digest(context.table(name)) for name in tables},
    }


def checkpoints_of(context: Context, stage: str, made_from: Mapping[str, Any]) -> Path:
    """The folder for states of this run, named by a digest of everything that determines the trained model."""
    model_params = without_run_only(made_from["params"])
    inputs = {key: value for key, value in made_from.items() if key not in {"params", "params_digest"}}
    return context.checkpoints(digest({"stage": stage, "params": model_params, "dataset": context.dataset, **inputs}))
