"""Somebody with data of their own: a folder of files, two commands, a report. Nothing is edited by hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser import reported
from tests.journeys.person import Person

REAL_DATA = Path(os.environ.get("VIP5_REAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
PHONE = 390
FRAMES = """<!doctype html><body>{frames}<pre id="found"></pre><script>
addEventListener("load", () => {{
  const found = {{}};
  for (const frame of document.querySelectorAll("iframe")) {{
    const page = frame.contentDocument;
    const photos = [...page.querySelectorAll("img")].filter(photo => photo.complete && photo.naturalWidth > 0);
    found[frame.id] = [page.documentElement.scrollWidth, photos.length];
  }}
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script></body>"""


def folder_of(name: str) -> Path:
    folder = REAL_DATA / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in the folder of real data: set VIP5_REAL_DATA")
    return folder.resolve()


def rows(person: Person, table: str) -> int:
    manifest: dict[str, Any] = json.loads((person.folder / "data" / table / "_manifest.json").read_text())
    return int(manifest["rows"])


def photos(person: Person, name: str) -> dict[str, int]:
    manifest = json.loads((person.folder / "data" / name / "images/embeddings/_manifest.json").read_text())
    counts: dict[str, int] = manifest["notes"]["counts"]
    return counts


def pages(person: Person, name: str, folder: Path) -> dict[str, list[int]]:
    """Content width at phone width and number of loaded photos of the three pages, as a browser shows them."""
    reports = person.folder / "reports" / name
    frames = "".join(
        f'<iframe id="{page}" src="{(reports / page).as_uri()}.html" width="{PHONE}" height="900" style="border:0">'
        "</iframe>"
        for page in ("data", "photos", "model")
    )
    (folder / "frames.html").write_text(FRAMES.format(frames=frames), encoding="utf-8")
    found: dict[str, list[int]] = reported(folder / "frames.html", folder)
    return found


def test_movielens_goes_from_its_folder_to_the_report(clone: Person, tmp_path: Path) -> None:
    folder = folder_of("movielens_small")
    said = clone.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="movies", FOLDER=str(folder))
    assert "format ratings: 100,836 interactions of 610 users with 9,724 items" in said.text
    assert said.lines[-1].endswith("make run PROFILE=movies")
    assert clone.types("git status --short").lines == ["?? profiles/movies.yaml"]
    clone.types("make run PROFILE=NAME", NAME="movies", within=1500)
    assert rows(clone, "movies/records/reviews") == 100_836
    counted = [rows(clone, f"movies/sequences/{table}") for table in ("interactions", "users", "items")]
    assert counted == [90_274, 610, 3_650]
    assert photos(clone, "movies")["ok"] == 3_548
    results = json.loads((clone.folder / "metrics/movies/evaluate.json").read_text())
    assert 0.03 < results["baselines"]["sequential"]["popularity"]["hr@10"] < 0.046
    found = pages(clone, "movies", tmp_path)
    assert all(width == PHONE for width, _ in found.values()), found
    assert found["photos"][1] > 20
    assert clone.types("git status --short").lines == ["?? profiles/movies.yaml"]


def test_gift_cards_go_from_their_folder_to_the_report(clone: Person, tmp_path: Path) -> None:
    folder = folder_of("amazon2018/gift_cards")
    said = clone.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="cards", FOLDER=str(folder))
    assert "format amazon2018: 2,972 interactions of 458 users with 148 items" in said.text
    clone.types("make run PROFILE=NAME", NAME="cards", within=1500)
    assert rows(clone, "cards/records/reviews") == 2_972
    assert [rows(clone, f"cards/sequences/{table}") for table in ("users", "items")] == [458, 148]
    assert photos(clone, "cards")["ok"] == 115
    found = pages(clone, "cards", tmp_path)
    assert all(width == PHONE for width, _ in found.values()), found
    assert found["photos"][1] > 20


def test_a_wrong_format_names_the_one_that_fits_and_it_works(clone: Person, tmp_path: Path) -> None:
    brought = tmp_path / "brought"
    brought.mkdir()
    lines = [f"U{n // 8},B{(n * 7 + n // 8) % 24},{1 + n % 5},{1_300_000_000 + 86_400 * n}" for n in range(400)]
    (brought / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    clone.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="shop", FOLDER=str(brought))
    profile = clone.folder / "profiles/shop.yaml"
    right = profile.read_text(encoding="utf-8")
    assert "format: ratings" in right
    profile.write_text(right.replace("format: ratings", "format: amazon2014"), encoding="utf-8")
    said = clone.types("make run PROFILE=NAME", ends=None, NAME="shop")
    assert said.code != 0
    (found,) = [line for line in said.lines if "ratings.csv" in line and "found" in line]
    assert "400 of 400" in found or "100%" in found or "100 %" in found
    assert "format: ratings" in found
    assert "Traceback" not in said.text
