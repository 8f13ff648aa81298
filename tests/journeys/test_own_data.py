"""Somebody with files of their own: from a folder to the report by the two commands of the README."""

from pathlib import Path

import pytest

from tests.journeys.conftest import fresh_clone, git
from tests.journeys.person import Person, Said

USERS, ITEMS = 60, 40


@pytest.fixture
def person(tmp_path: Path, home: Path) -> Person:
    """A person in a fresh clone, who has run nothing yet."""
    return Person(fresh_clone(tmp_path / "clone"), home)


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


def test_a_folder_of_ratings_reaches_the_report(person: Person, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    pairs = [(user, (user * 7 + 3 * step * step) % ITEMS) for user in range(USERS) for step in range(6 + user % 4)]
    rows = [f"{user},{item},{0.5 + at % 10 / 2},{1_400_000_000 + 60 * at}" for at, (user, item) in enumerate(pairs)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    films = [f'{item},"Film, The {item} (1995)",Comedy|Drama' for item in range(ITEMS)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")
    looked, ran = brought(person, "films", folder, within=600)
    assert f"of {USERS} users with {ITEMS} items; ratings 0.5 to 5, 0 texts, {ITEMS} described items" in looked.text
    assert "VIP5 finds the next item" in ran.text
    again = person.types(".venv/bin/python -m flows.new NAME --from FOLDER", NAME="films", FOLDER=str(folder), ends=2)
    assert "profiles/films.yaml, which exists" in again.text


REAL = {
    "movielens": (
        "movielens_small",
        "100,836 interactions of 610 users with 9,724 items",
        "90,274 interactions, 610 users, 3,650",
    ),
    "vouchers": ("amazon2018/gift_cards", "2,972 interactions of 458 users with 148 items", "453 users, 147 items"),
}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_dumps_reach_the_report(person: Person, real_data: Path, name: str) -> None:
    place, whole, core = REAL[name]
    looked, _ = brought(person, name, real_data / place, within=3600)
    assert whole in looked.text
    assert core in looked.text
