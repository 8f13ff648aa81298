"""The commonest texts of the data page."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.reporting import common_texts


def rows_of(texts: list[str]) -> pl.LazyFrame:
    return pl.LazyFrame({"text": texts}, schema={"text": pl.String})


def test_the_commonest_texts_come_first_with_their_shares() -> None:
    found = common_texts.commonest(rows_of(["No title"] * 3 + ["a", "b", "a", "x" * 400, "x" * 400]))
    assert found == {
        "filled": 8,
        "rows": [
            {"text": "No title", "count": 3, "share": 37.5},
            {"text": "a", "count": 2, "share": 25.0},
            {"text": "x" * 157 + "...", "count": 2, "share": 25.0},
        ],
    }
    assert common_texts.commonest(rows_of([])) == {"filled": 0, "rows": []}


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=60), st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_the_number_of_passes_changes_no_count(texts: list[str], rows_per_pass: int) -> None:
    counts = sorted((texts.count(text) for text in set(texts) if texts.count(text) > 1), reverse=True)[:10]
    found = common_texts.commonest(rows_of(texts), rows_per_pass=rows_per_pass)
    assert [row["count"] for row in found["rows"]] == counts


@pytest.mark.parametrize("column", ["title", "brand", "category", "headline", "text"])
def test_every_text_column_is_counted(column: str) -> None:
    items = pl.LazyFrame({"title": ["t"] * 2, "brand": ["b"] * 2, "categories": [["w", "n"]] * 2})
    reviews = pl.LazyFrame({"headline": ["h"] * 2, "text": ["x"] * 2})
    [found] = [entry for entry in common_texts.collect(reviews, items) if entry["name"] == column]
    value = {"title": "t", "brand": "b", "category": "n", "headline": "h", "text": "x"}[column]
    assert found["rows"] == [{"text": value, "count": 2, "share": 100.0}]
