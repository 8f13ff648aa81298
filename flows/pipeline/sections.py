"""The sections of `params.yaml` and the parameter class of each, in data order."""

import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from features.runtime.params import build

SECTIONS = {
    "ingest": "flows.download.http_client:IngestParams",
    "sample": "pipelines.synthetic.config:Params",
    "records": "pipelines.parsing.config:Params",
    "sequences": "pipelines.sequencing.config:Params",
    "explanations": "pipelines.aspects.config:Params",
    "candidates": "pipelines.candidates:Params",
    "clip": "features.encoders.config:ClipParams",
    "images": "features.images:Params",
    "texts": "features.texts:Params",
    "identifiers": "features.identifiers:Params",
    "prompts": "pipelines.prompting.config:Params",
    "backbone": "modeling.config.model:BackboneParams",
    "pretrain": "modeling.pretrain:Params",
    "train": "modeling.train:Params",
    "evaluate": "modeling.config.evaluate:Params",
    "data_report": "pipelines.reporting.config:Params",
    "model_report": "modeling.model_report:Params",
    "retrain": "flows.retraining.config:RetrainParams",
    "beam": "pipelines.beam.runner:BeamParams",
}
"""Section to the class that holds its defaults, descriptions and ranges."""


def class_of(section: str) -> Any:
    """The parameter class of a section."""
    module, _, name = SECTIONS[section].partition(":")
    return getattr(importlib.import_module(module), name)


def built(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the name and the parameters of every known section of `params`.

    Raises:
        ParamsError: a key is unknown, missing, ill-typed or out of range; the message suggests known keys.
    """
    for section in SECTIONS:
        if section in params:
            yield section, build(class_of(section), params[section] or {}, where=section)


def with_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with every parameter of every known section written out, as plain JSON values.

    A derived pipeline and a sealed model record these, so that a later default of the code does not change them.

    Raises:
        ParamsError: as `built`.
    """
    filled = {section: dataclasses.asdict(values) for section, values in built(params)}
    plain: dict[str, Any] = json.loads(json.dumps(dict(params) | filled))
    return plain
