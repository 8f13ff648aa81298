"""Generates `docs/reference/parameters.md`: every parameter of `params.yaml`, from the parameter classes.

Reads the dataclasses and the strings below their fields; writes one table for each section, in data order.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import typing
from collections.abc import Iterator
from typing import Any

SECTIONS = {
    "beam": "pipelines.beam.runner:BeamParams",
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
    "backbone": "modeling.config.settings:BackboneParams",
    "pretrain": "modeling.pretrain:Params",
    "train": "modeling.train:Params",
    "evaluate": "modeling.config.evaluate:Params",
    "data_report": "pipelines.reporting.config:Params",
    "model_report": "modeling.model_report:Params",
    "retrain": "flows.retraining.config:RetrainParams",
}
"""Section of params.yaml to the class that documents it."""


def parameters_page() -> str:
    """Generates the page of parameters: type, default and meaning of each."""
    lines = [
        "# Parameters",
        "",
        "Sections of `params.yaml` in data order. Names within a group are joined by dots, as in",
        "`.venv/bin/dvc exp run -S train.loop.epochs=20`. The default is that of the code; `params.yaml` and the",
        "[profiles](../guides/own-data.md) may set another value. An unknown key or a wrong type stops a stage before",
        "any work. `datasets`, `tokenizers` and `ingest` are documented in `params.yaml` itself.",
    ]
    for section, place in SECTIONS.items():
        module, _, name = place.partition(":")
        cls = getattr(importlib.import_module(module), name)
        lines += ["", f"## {section}", "", "| parameter | type | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{path}` | {kind} | {default} | {text} |" for path, kind, default, text in rows(cls)]
    return "\n".join(lines) + "\n"


def rows(cls: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields (name, type, default, meaning) of each field; the fields of a nested dataclass follow their group.

    Example:
        a field `loop: Loop` with a field `epochs: int = 3` gives `loop`, then `loop.epochs` with default 3.
    """
    hints, texts = typing.get_type_hints(cls), field_docs(cls)
    for field in dataclasses.fields(cls):
        path, hint = f"{prefix}{field.name}", hints[field.name]
        group = next((kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)), None)
        yield path, _type_name(hint, group), "" if group else _default(field), _cell(texts.get(field.name, "-"))
        if group:
            yield from rows(group, f"{path}.")


def field_docs(cls: Any) -> dict[str, str]:
    """Returns the string literal below each field in the source of the class, by field name."""
    body = ast.parse(inspect.cleandoc(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _type_name(hint: Any, group: Any) -> str:
    if group:
        return "group"
    name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    name = name.replace("typing.", "").replace("NoneType", "null").replace("None", "null")
    return _cell(name)


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return _cell("null" if field.default is None else repr(field.default))
    if field.default_factory is not dataclasses.MISSING:
        return _cell(repr(field.default_factory()))
    return "required"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
