"""Somebody with files of their own: from a folder to the report by the two commands of the README."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser import reported
from tests.journeys.conftest import git
from tests.journeys.person import Person, Said

USERS, ITEMS = 60, 40
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


def brought(person: Person, name: str, folder: Path, *, within: float) -> tuple[Said, Said]:
    """Types both commands, and looks at what they leave."""
    looked = person.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME=name, FOLDER=str(folder), within=300)
    assert looked.lines[-1] == f"new: next: make run PROFILE={name}"
    ran = person.types("make run PROFILE=NAME", NAME=name, within=within)
    for page in ("model", "data", "photos"):
        assert (person.folder / f"reports/{name}/{page}.html").is_file()
    assert "Leaks: none found." in ran.text
    assert git(person.folder, "status", "--porcelain").decode() == f"?? profiles/{name}.yaml\n"
    return looked, ran


def test_a_folder_of_ratings_reaches_the_report(clone: Person, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    pairs = [(user, (user * 7 + 3 * step * step) % ITEMS) for user in range(USERS) for step in range(6 + user % 4)]
    rows = [f"{user},{item},{0.5 + at % 10 / 2},{1_400_000_000 + 60 * at}" for at, (user, item) in enumerate(pairs)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    films = [f'{item},"Film, The {item} (1995)",Comedy|Drama' for item in range(ITEMS)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")
    looked, ran = brought(clone, "films", folder, within=600)
    assert f"of {USERS} users with {ITEMS} items; ratings 0.5 to 5, 0 texts, {ITEMS} described items" in looked.text
    assert "VIP5 finds the next item" in ran.text
    again = clone.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="films", FOLDER=str(folder), ends=2)
    assert "profiles/films.yaml, which exists" in again.text


def rows(person: Person, table: str) -> int:
    manifest: dict[str, Any] = json.loads((person.folder / "data" / table / "_manifest.json").read_text())
    return int(manifest["rows"])


def photos(person: Person, name: str) -> dict[str, int]:
    manifest = json.loads((person.folder / "data" / name / "images/embeddings/_manifest.json").read_text())
    counts: dict[str, int] = manifest["notes"]["counts"]
    return counts


def look_at_pages(person: Person, name: str, folder: Path) -> None:
    """Opens the three pages in a browser: each fits a phone, and the photo page shows photos."""
    reports = person.folder / "reports" / name
    frames = "".join(
        f'<iframe id="{page}" src="{(reports / page).as_uri()}.html" width="{PHONE}" height="900" style="border:0">'
        "</iframe>"
        for page in ("data", "photos", "model")
    )
    (folder / "frames.html").write_text(FRAMES.format(frames=frames), encoding="utf-8")
    found: dict[str, list[int]] = reported(folder / "frames.html", folder)
    assert all(width == PHONE for width, _ in found.values()), found
    assert found["photos"][1] > 20


@pytest.mark.real
@pytest.mark.slow
def test_movielens_goes_from_its_folder_to_the_report(clone: Person, real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "movielens_small"
    said = clone.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="movies", FOLDER=str(folder))
    assert "format ratings: 100,836 interactions of 610 users with 9,724 items" in said.text
    assert said.lines[-1].endswith("make run PROFILE=movies")
    assert clone.types("git status --short").lines == ["?? profiles/movies.yaml"]
    clone.types("make run PROFILE='NAME quick'", NAME="movies", within=1500)
    assert rows(clone, "movies/records/reviews") == 100_836
    counted = [rows(clone, f"movies/sequences/{table}") for table in ("interactions", "users", "items")]
    assert counted == [90_274, 610, 3_650]
    assert photos(clone, "movies")["ok"] == 3_548
    results = json.loads((clone.folder / "metrics/movies/evaluate.json").read_text())
    assert 0.03 < results["baselines"]["sequential"]["popularity"]["hr@10"] < 0.046
    look_at_pages(clone, "movies", tmp_path)
    assert clone.types("git status --short").lines == ["?? profiles/movies.yaml"]


@pytest.mark.real
@pytest.mark.slow
def test_gift_cards_go_from_their_folder_to_the_report(clone: Person, real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "amazon2018/gift_cards"
    said = clone.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="cards", FOLDER=str(folder))
    assert "format amazon2018: 2,972 interactions of 458 users with 148 items" in said.text
    clone.types("make run PROFILE=NAME", NAME="cards", within=1500)
    assert rows(clone, "cards/records/reviews") == 2_972
    counted = [rows(clone, f"cards/sequences/{table}") for table in ("users", "items")]
    assert counted == [453, 147]  # repeated pairs count once
    assert photos(clone, "cards")["ok"] == 114
    look_at_pages(clone, "cards", tmp_path)


def test_a_wrong_format_names_the_one_that_fits(clone: Person, tmp_path: Path) -> None:
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
