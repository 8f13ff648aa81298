"""Somebody wants recommendations: for a user, for a cold-start user as a page with photos, and mistypes a key."""

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.browser import chromium, reported
from tests.journeys.person import Person

PHONE = 390
FRAME = """<!doctype html><body><iframe src="{page}" width="{width}" height="9000" style="border:0"></iframe>
<pre id="found"></pre><script>
addEventListener("load", () => setTimeout(() => {{  // photos that come into view are loaded after the page
  const page = document.querySelector("iframe").contentDocument;
  const found = [page.documentElement.scrollWidth, [...page.images].map(image => image.naturalWidth)];
  document.getElementById("found").textContent = JSON.stringify(found);
}}, 2000));
</script></body>"""


@pytest.fixture(scope="module")
def demo(demo_text: tuple[Path, str], home: Path) -> Person:
    """Somebody in the clone in which `make demo` has run; asking leaves it as it is."""
    return Person(demo_text[0], home)


def column(person: Person, table: str, name: str) -> list[Any]:
    """A column of data/sample/<table>, as any Parquet reader shows it."""
    parts = sorted((person.folder / "data/sample" / table).glob("*.parquet"))
    return [value for part in parts for value in pq.read_table(part, columns=[name])[name].to_pylist()]


def with_photos(person: Person) -> list[str]:
    """Keys of items that have a photo which could be read."""
    states = dict(zip(*(column(person, "images/embeddings", name) for name in ("item_id", "status")), strict=True))
    items = zip(*(column(person, "sequences/items", name) for name in ("item_id", "item_key")), strict=True)
    return [key for item_id, key in items if states[item_id] == "ok"]


def test_a_user_gets_ten_items_and_the_name_of_the_model(demo: Person) -> None:
    users, items = column(demo, "sequences/users", "user_key"), set(column(demo, "sequences/items", "item_key"))
    said = demo.types(".venv/bin/python -m modeling.recommend --user KEY", KEY=users[3])
    assert re.fullmatch(
        rf"sample, user {users[3]}: \d+ items known, 2 of them shown to the model, prompt A-3", said.lines[0]
    )
    assert said.lines[1] == ("model: the last trained model, which the gate has not judged; no model was promoted yet")
    named = [line.split()[2] for line in said.lines[2:]]
    assert len(set(named)) == 10
    assert set(named) <= items


def test_a_cold_start_user_gets_a_photo_page_that_fits_a_phone(demo: Person, tmp_path: Path) -> None:
    chromium()  # skips before anything is run
    older, newer = with_photos(demo)[:2]
    said = demo.types(
        ".venv/bin/python -m modeling.recommend --history OLDER_KEY,NEWER_KEY --page page.html",
        OLDER_KEY=older, NEWER_KEY=newer,
    )  # fmt: skip
    assert said.lines[0] == "sample, a cold-start user: 2 items known, 2 of them shown to the model, prompt A-6"
    page = shutil.move(demo.folder / "page.html", tmp_path / "page.html")
    text = page.read_text()
    assert "model: the last trained model, which the gate has not judged" in text
    assert text.count("<img ") >= 3
    width, photos = laid_out(tmp_path, page)
    assert width == PHONE
    assert len(photos) == text.count("<img ")
    assert min(photos) > 0


def laid_out(folder: Path, page: Path) -> tuple[int, list[int]]:
    """How wide the page's content is on a phone, and the width of each of its photos (0: it was not loaded)."""
    outer = folder / "frame.html"
    outer.write_text(FRAME.format(page=page.as_uri(), width=PHONE), encoding="utf-8")
    width, photos = reported(outer, folder)
    return width, photos


def test_a_mistyped_key_is_one_line_that_names_the_nearest(demo: Person) -> None:
    user, item = column(demo, "sequences/users", "user_key")[0], column(demo, "sequences/items", "item_key")[0]
    said = demo.types(".venv/bin/python -m modeling.recommend --user KEY", KEY=f"{user}X", ends=3, within=20)
    assert len(said.lines) == 1
    assert said.lines[0].startswith(f"recommend: found no user '{user}X' in data/sample/sequences/users; ")
    assert re.search(rf"expected (\w+, )*{user}\b.* \(the nearest known\)", said.lines[0])
    said = demo.types(
        ".venv/bin/python -m modeling.recommend --history OLDER_KEY,NEWER_KEY --page page.html",
        OLDER_KEY=item, NEWER_KEY=f"{item[:-1]}?", ends=3, within=20,
    )  # fmt: skip
    assert len(said.lines) == 1
    assert re.search(rf"found no item .* expected (\w+, )*{item}\b.* \(the nearest known\)", said.lines[0])
    assert not (demo.folder / "page.html").exists()


@pytest.mark.parametrize("dataset", ["nosuch", "toys"])
def test_a_dataset_without_a_run_is_reported(demo: Person, dataset: str) -> None:
    said = demo.types(
        ".venv/bin/python -m modeling.recommend --user KEY --dataset NAME", KEY="any", NAME=dataset, ends=2, within=20
    )
    (message,) = said.lines
    assert message == (
        f"recommend: found dataset '{dataset}' without a run; expected one of: sample; "
        f"do: run `make run PROFILE={dataset}`, or name its parameters with --params"
    )
