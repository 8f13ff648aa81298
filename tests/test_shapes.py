"""Public functions of tensors and arrays name their axes, and the tests check them (tests/type_checks.py)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

from features.vision.preprocessing import Fit, normalised
from modeling.models.token_loss import TokenLosses
from modeling.models.visual_projector import insert_visual_tokens
from tests.type_checks import CHECKED

ROOT = Path(__file__).parents[1]
PLACES = [ROOT / name.replace(".", "/") for name in CHECKED]
FILES = [
    path for place in PLACES for path in (sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")])
]


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AnnAssign]:
    """Yields public functions, methods and fields, `__init__` and `__call__` included."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AnnAssign):
            name = node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.target)
            if not name.startswith("_") or name.startswith("__"):
                yield node


def annotations(node: ast.FunctionDef | ast.AnnAssign) -> Iterator[ast.expr]:
    if isinstance(node, ast.AnnAssign):
        yield node.annotation
        return
    arguments = node.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    yield from (one.annotation for one in listed if one is not None and one.annotation is not None)
    if node.returns is not None:
        yield node.returns


def without_axes(annotation: ast.expr) -> list[str]:
    """Returns the tensors and arrays of an annotation that jaxtyping does not check: not wrapped, or quoted."""
    if isinstance(annotation, ast.Subscript):
        name = ast.unparse(annotation.value)
        if name == "Literal" or hasattr(jaxtyping, name):
            return []
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return [annotation.value] if "Tensor" in annotation.value or "array" in annotation.value else []
    if isinstance(annotation, ast.Name | ast.Attribute):
        module, _, name = ast.unparse(annotation).rpartition(".")
        is_array = name == "Tensor" or name.lower().endswith("array")
        return [name] if is_array and module != "pa" else []  # columns of PyArrow have one axis
    return [
        name
        for child in ast.iter_child_nodes(annotation)
        if isinstance(child, ast.expr)
        for name in without_axes(child)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_public_tensors_name_their_axes(path: Path) -> None:
    nodes = public(ast.parse(path.read_text(encoding="utf-8")).body)
    assert [(node.lineno, without_axes(one)) for node in nodes for one in annotations(node) if without_axes(one)] == []


def test_axes_of_one_name_have_one_size() -> None:
    embeddings, tokens = torch.zeros(2, 3, 4), torch.zeros(2, 1, 4)
    insert_visual_tokens(embeddings, tokens, torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(jaxtyping.TypeCheckError, match="placeholders"):
        insert_visual_tokens(embeddings, tokens, torch.zeros(2, 5, dtype=torch.bool))


def test_the_dtype_is_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="placeholders"):
        insert_visual_tokens(torch.zeros(2, 3, 4), torch.zeros(2, 1, 4), torch.zeros(2, 3))


def test_modules_that_import_torch_late_are_checked_too() -> None:
    fit = Fit(steps=(), height=2, width=2, mean=(0.0,) * 3, std=(1.0,) * 3, description="")
    assert normalised(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), fit).shape == (1, 3, 2, 2)
    with pytest.raises(jaxtyping.TypeCheckError, match="pixels"):
        normalised(torch.zeros(1, 2, 2, 3), fit)


def test_fields_of_dataclasses_are_checked() -> None:
    rows = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(jaxtyping.TypeCheckError, match="rows"):
        TokenLosses(torch.zeros(4), rows, rows)
