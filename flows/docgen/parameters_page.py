"""Generates `docs/reference/parameters.md`: every parameter of `params.yaml`, from the parameter classes.

Reads the dataclasses, the strings below their fields and `params.yaml`; writes one table for each section, in data
order.
"""

import ast
import dataclasses
import inspect
import itertools
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from features.runtime.datasets import Dataset
from flows.pipeline.sections import SECTIONS, class_of

INTRODUCTION = """# Parameters

Sections of `params.yaml` in data order. Names within a group are joined by dots: `train.schedule.epochs`. A default has
one place, the parameter class; `params.yaml` lists what the sample sets differently (column *sample*), and a
[profile](../guides/own-data.md) what a data set sets differently from that. An unknown key or a wrong type stops a run
before any work.

A parameter that `params.yaml` lists is changed for one run by `.venv/bin/dvc exp run -S train.schedule.epochs=20`, any
other one with `++` before its name: `.venv/bin/dvc exp run -S ++train.optimizer.clip_norm=1.0`.

Without a section of their own: `dataset` (the entry of `datasets` that the pipeline processes), `seed` (every random
draw is named from it), `num_visual_tokens` (placeholders, and visual tokens, of a photo in a prompt) and `tokenizers`
(folder below `data/raw` to the files of a backbone's own tokenizer).
"""


def parameters_page(params: Mapping[str, Any]) -> str:
    """Generates the page of parameters: type, default, value of the sample and meaning of each.

    Args:
        params: the content of `params.yaml`.
    """
    lines = [INTRODUCTION, "## datasets.NAME", "", "| parameter | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{path}` | {kind} | {default} | {text} |" for path, kind, default, text in rows(Dataset)]
    for section in SECTIONS:
        lines += ["", f"## {section}", "", "| parameter | type | default | sample | meaning |", "|---|---|---|---|---|"]
        for path, kind, default, text in rows(class_of(section)):
            lines.append(f"| `{path}` | {kind} | {default} | {_set_value(params[section], path)} | {text} |")
    return "\n".join(lines) + "\n"


def rows(cls: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields (name, type, default, meaning) of each field; the fields of a nested dataclass follow their group.

    Example:
        a field `schedule: Schedule` with a field `epochs: int = 3` gives `schedule`, then `schedule.epochs` with
        default 3.
    """
    hints, texts = typing.get_type_hints(cls), field_docs(cls)
    for field in dataclasses.fields(cls):
        path, hint = f"{prefix}{field.name}", hints[field.name]
        group = next((kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)), None)
        yield path, _type_name(hint, group), "" if group else _default(field), _cell(texts.get(field.name, "-"))
        if group:
            yield from rows(group, f"{path}.")


def field_docs(cls: Any) -> dict[str, str]:
    """Returns the string literal below each field in the source of the class and its bases, by field name."""
    found = {}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(inspect.cleandoc(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _set_value(values: Any, path: str) -> str:
    """The value that `params.yaml` sets for a parameter of a section; empty if it sets none, or a group."""
    for name in path.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return ""
        values = values[name]
    if isinstance(values, Mapping):
        return ""
    return _cell("null" if values is None else repr(tuple(values) if isinstance(values, list) else values))


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
