"""The entries and lines that docs/reference/formats shows are read without a reject."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from features.runtime.datasets import Dataset
from features.runtime.params import build
from pipelines.parsing.table_columns import NAMES, Kind
from tests.pipelines.parsing.one_file import read

PAGES = Path(__file__).parents[3] / "docs/reference/formats"
FORMATS = get_args(get_type_hints(Dataset)["format"])
LINES: dict[str, tuple[str, list[Kind]]] = {
    "amazon": ("amazon2014", ["reviews", "reviews"]), "ratings": ("ratings", ["reviews", "items"]),
    "recbole": ("recbole", ["reviews", "items"]), "sequences": ("sequences", ["reviews"]),
    "openp5": ("openp5", ["reviews", "items"]),
}  # fmt: skip


def fenced(page: str) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a page."""
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_every_format_has_a_page() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for form in FORMATS:
        assert f"`{form}`" in index


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md") if path.name != "README.md"))
def test_the_entry_of_a_page_is_a_dataset(page: str) -> None:
    blocks = [text for language, text in fenced(page) if language == "yaml"]
    assert blocks
    for block in blocks:
        for name, entry in yaml.safe_load(block)["datasets"].items():
            assert build(Dataset, entry, where=f"datasets.{name}").format in FORMATS


@pytest.mark.parametrize("page", LINES)
def test_the_lines_of_a_page_are_read(tmp_path: Path, page: str) -> None:
    form, kinds = LINES[page]
    blocks = [text for language, text in fenced(f"{page}.md") if language != "yaml"]
    assert len(blocks) == len(kinds)
    for block, kind in zip(blocks, kinds, strict=True):
        found = read(tmp_path, block.encode(), form, kind=kind, rating_range=(0.5, 5.0))
        assert (len(found.rows) > 0, found.rejects) == (True, [])


def test_the_page_of_ratings_lists_every_known_name() -> None:
    page = (PAGES / "ratings.md").read_text(encoding="utf-8")
    words = {re.sub(r"[\s_.-]", "", word.lower()) for word in re.findall(r"[\w.-]+", page)}
    for names in NAMES.values():
        assert {known for all_known in names.values() for known in all_known} <= words
