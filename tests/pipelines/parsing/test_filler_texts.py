"""A text that fills a column, or that a parameter lists, is no title and no review text."""

import logging
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import ParamsError
from features.runtime.params import build
from features.store import tables
from pipelines.parsing import filler_texts
from pipelines.parsing.config import Params


def stage(folder: Path, titles: list[str | None], texts: list[str | None]) -> dict[str, Path]:
    """Staged parts of ten rows each with these titles and texts."""
    staging = {"items": folder / "items", "reviews": folder / "reviews"}
    fixed: dict[str, Any] = {"source": "x", "item_key": "B1", "categories": []}
    items = [fixed | {"title": title, "line": line} for line, title in enumerate(titles, 1)]
    known = {"source": "x", "item_key": "B1", "user_key": "U1", "position": 0}
    reviews = [known | {"text": text, "line": line} for line, text in enumerate(texts, 1)]
    for name, table, rows in (("items", schema.ITEMS, items), ("reviews", schema.REVIEWS, reviews)):
        staging[name].mkdir()
        empty = {column.name: None for column in table.columns if column.nullable}
        for start in range(0, len(rows), 10):
            part = tables.from_rows(table, [empty | row for row in rows[start : start + 10]])
            tables.write_part(staging[name], table, start // 10, part)
    return staging


def column(folder: Path, name: str) -> list[str | None]:
    import polars as pl

    return list(pl.read_parquet(sorted(folder.glob("*.parquet")))[name])


def test_a_title_in_nearly_every_row_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    titles: list[str | None] = ["A+B (*) details"] * 30 + ["Lamp", "Kettle", None]
    staging = stage(tmp_path, titles, ["fine", None, "good"])
    with caplog.at_level(logging.WARNING, "vip5"):
        found = filler_texts.drop_fillers(staging, (), 0.8)
    assert found == {"title": {"A+B (*) details": 30}}
    assert column(staging["items"], "title") == [None] * 30 + ["Lamp", "Kettle", None]
    assert caplog.messages == ["records: 30 rows lose their title, the filler 'A+B (*) details'"]


@pytest.mark.parametrize("titles", [["Lamp"] * 19, ["Lamp"] * 24 + ["Kettle"] * 6, []])
def test_frequent_or_few_titles_stay(tmp_path: Path, titles: list[str | None]) -> None:
    staging = stage(tmp_path, titles, ["fine"])
    assert filler_texts.drop_fillers(staging, (), 0.8) == {}
    if titles:
        assert column(staging["items"], "title") == titles


def test_listed_texts_and_beginnings_are_dropped(tmp_path: Path) -> None:
    texts = ["N/A", "n/a", "Nothing", "Media: 1.jpg", "media: 2.jpg", "A medium", None]
    staging = stage(tmp_path, ["N/A", "Lamp"], list(texts))
    found = filler_texts.drop_fillers(staging, ("n/a", "Media:*"), 0.8)
    assert found == {"text": {"n/a": 2, "Media:*": 2}, "title": {"n/a": 1}}
    assert column(staging["reviews"], "text") == [None, None, "Nothing", None, None, "A medium", None]
    assert column(staging["items"], "title") == [None, "Lamp"]


@pytest.mark.parametrize(
    "wrong", [{"placeholder_texts": ["*"]}, {"placeholder_texts": [" a"]}, {"max_text_share": 0.2}]
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="records"):
        build(Params, wrong, where="records")
