import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from features.runtime import profiles
from features.runtime.datasets import Dataset
from features.runtime.params import build
from flows import new
from flows.pipeline.derived_pipeline import write_pipeline

USERS, ITEMS = 30, 24
PAIRS = [(user, (user * 5 + 3 * step) % ITEMS) for user in range(USERS) for step in range(6 + user % 3)]
TEXT = "The handle is sturdy and the colour is lovely. Great sound, but the cable is too short."


def key(item: int) -> str:
    return f"B0000000{item:02d}"


def when(number: int) -> int:
    return 1_400_000_000 + 3600 * number


def lines(records: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def reviews_2018() -> list[dict[str, object]]:
    return [
        {
            "reviewerID": f"A{user:013d}", "asin": key(item), "overall": float(1 + number % 5), "verified": True,
            "reviewText": TEXT, "summary": "Good", "unixReviewTime": when(number),
        }
        for number, (user, item) in enumerate(PAIRS)
    ]  # fmt: skip


def metadata_2018() -> list[dict[str, object]]:
    return [
        {"asin": key(item), "title": f"Blue kettle {item}", "category": ["Home"], "imageURL": []}
        for item in range(ITEMS)
    ]


def amazon(folder: Path) -> None:
    (folder / "Home_5.json.gz").write_bytes(gzip.compress(lines(reviews_2018())))
    with zipfile.ZipFile(folder / "meta_Home.zip", "w") as archive:
        archive.writestr("meta_Home.json", lines(metadata_2018()))
    with tarfile.open(folder / "photos.tar", "w") as archive:
        for item in range(ITEMS):
            stream = io.BytesIO()
            Image.new("RGB", (32, 32), (item * 9, 20, 40)).save(stream, "JPEG")
            member = tarfile.TarInfo(f"{key(item)}.jpg")
            member.size = len(stream.getvalue())
            archive.addfile(member, io.BytesIO(stream.getvalue()))
    (folder / "README.txt").write_text("Some words about these files.\n")


def movielens(folder: Path) -> None:
    rows = [f"{user},{item + 1},{0.5 + number % 10 / 2},{when(number)}" for number, (user, item) in enumerate(PAIRS, 1)]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    films = [f'{item + 1},"Film, The {item} (1995)",Comedy|Drama' for item in range(ITEMS)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(films) + "\n")
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,2,funny,1400000000\n")
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n1,0114709,862\n")


def official_ratings(folder: Path) -> None:
    rows = [f"A{user:013d},{key(item)},4.0,{when(number)}" for number, (user, item) in enumerate(PAIRS)]
    (folder / "ratings_Home.csv").write_text("\n".join(rows) + "\n")


def other_names(folder: Path) -> None:
    rows = [f"{when(number)}\t{item}\t{user}" for number, (user, item) in enumerate(PAIRS)]
    (folder / "plays.tsv").write_text("time\tartistID\tvisitorid\n" + "\n".join(rows) + "\n")


def parquet(folder: Path) -> None:
    columns = {"user": [f"u{user}" for user, _ in PAIRS], "item": [f"i{item}" for _, item in PAIRS]}
    times = {"rating": [3.0] * len(PAIRS), "timestamp": [when(number) for number in range(len(PAIRS))]}
    pl.DataFrame(columns | times).write_parquet(folder / "ratings.parquet")


def recbole(folder: Path) -> None:
    rows = [f"{user}\t{item}\t3\t{when(number)}" for number, (user, item) in enumerate(PAIRS)]
    (folder / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows) + "\n"
    )
    (folder / "x.item").write_text(
        "item_id:token\ttitle:token_seq\n" + "".join(f"{item}\tFilm {item}\n" for item in range(ITEMS))
    )


def numbered() -> str:
    histories = {user: [str(item + 1) for one, item in PAIRS if one == user] for user in range(USERS)}
    return "".join(f"{user + 1} {' '.join(items)}\n" for user, items in histories.items())


def sequences(folder: Path) -> None:
    (folder / "Beauty.txt").write_text(numbered())


def p5(folder: Path) -> None:
    (folder / "sequential_data.txt").write_text(numbered())
    maps = {
        "id2user": {str(user + 1): f"U{user}" for user in range(USERS)},
        "id2item": {str(item + 1): key(item) for item in range(ITEMS)},
    }
    (folder / "datamaps.json").write_text(json.dumps(maps))
    items = [{"asin": key(item), "title": f"Toy {item}", "vip5_item_id": item + 1} for item in range(ITEMS)]
    (folder / "items.jsonl.gz").write_bytes(gzip.compress(lines(items)))  # type: ignore[arg-type]


def openp5(folder: Path) -> None:
    text = "".join(
        f"A{line.split()[0]}X {' '.join(key(int(n) - 1) for n in line.split()[1:])}\n"
        for line in numbered().splitlines()
    )
    (folder / "user_sequence.txt").write_text(text)
    (folder / "item_plain_text.txt").write_text("".join(f"{key(item)} Red puzzle {item}\n" for item in range(ITEMS)))


def vectors(folder: Path) -> None:
    official_ratings(folder)
    (folder / "features").mkdir()
    for item in range(ITEMS):
        np.save(folder / f"features/{key(item)}.npy", np.full(8, item + 1, np.float32))


LAYOUTS: list[tuple[Callable[[Path], None], str]] = [
    (amazon, "amazon2018"),
    (movielens, "ratings"),
    (official_ratings, "ratings"),
    (other_names, "ratings"),
    (parquet, "ratings"),
    (recbole, "recbole"),
    (sequences, "sequences"),
    (p5, "p5"),
    (openp5, "openp5"),
    (vectors, "ratings"),
]


@pytest.fixture
def work(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace, entered, with a folder `downloads`."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path / name)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "downloads").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("make", "form"), LAYOUTS, ids=[make.__name__ for make, _ in LAYOUTS])
def test_every_layout_reaches_the_prompts(work: Path, make: Callable[[Path], None], form: str) -> None:
    from features import identifiers
    from pipelines import candidates, explanations, prompts, records, sequences

    make(work / "downloads")
    assert new.main(["home", "--from", "downloads"]) == 0
    merged = profiles.merged(["home"], work)
    assert merged["dataset"] == "home"
    assert build(Dataset, merged["datasets"]["home"], where="datasets.home").format == form
    assert profiles.dump_params("home", work)["datasets"]["home"] == merged["datasets"]["home"]
    params = str(write_pipeline(["home"]).with_name("params.yaml"))
    for stage in (records, sequences, explanations, candidates, identifiers, prompts):
        assert stage.main(["--params", params]) == 0


def made(work: Path, make: Callable[[Path], None]) -> dict[str, object]:
    make(work / "downloads")
    assert new.main(["home", "--from", "downloads"]) == 0
    loaded = yaml.safe_load((work / "profiles/home.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_profile_says_why(work: Path) -> None:
    profile = made(work, movielens)
    assert profile["datasets"]["home"]["reviews"] == ["ratings.csv"]  # type: ignore[index]
    assert profile["datasets"]["home"]["rating_range"] == [0.5, 5.0]  # type: ignore[index]
    text = (work / "profiles/home.yaml").read_text()
    for line in ("k_core: 5 ", "num_negatives: 16", "max_history: 10", "vocabulary_size: 1500"):
        assert any(line in one and "#" in one for one in text.splitlines()), line
    assert "5-core" in text.splitlines()[1]


def test_photos_beside_reviews_are_brought_in(work: Path) -> None:
    profile = made(work, amazon)
    assert profile["datasets"]["home"]["photos"] == "photos"  # type: ignore[index]
    assert (work / "data/raw/home/photos/photos.tar").is_file()


def test_archives_among_the_files_are_photos(work: Path) -> None:
    amazon(work / "downloads")
    (work / "downloads/photos.tar").rename(work / "downloads/posters-0.tar")
    shutil.copy(work / "downloads/posters-0.tar", work / "downloads/posters-1.tar")
    assert new.main(["home", "--from", "downloads"]) == 0
    assert profiles.merged(["home"], work)["datasets"]["home"]["photos"] == "."
    manifest = json.loads((work / "data/raw/home/manifest.json").read_text())
    assert {"posters-0.tar", "posters-1.tar"} <= {entry["name"] for entry in manifest}


def test_photos_of_other_things_are_not_used(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    official_ratings(work / "downloads")
    (work / "downloads/pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32)).save(work / f"downloads/pictures/IMG_{number}.jpg")
    assert new.main(["home", "--from", "downloads"]) == 0
    assert "no photos are used: photos: 0 of 3 used" in caplog.text
    assert "photos" not in profiles.merged(["home"], work)["datasets"]["home"]
    assert profiles.merged(["home"], work)["num_visual_tokens"] == 1


def test_a_table_of_photo_names_is_used(work: Path) -> None:
    official_ratings(work / "downloads")
    (work / "downloads/pictures").mkdir()
    for item in range(ITEMS):
        Image.new("RGB", (32, 32)).save(work / f"downloads/pictures/IMG_{item}.jpg")
    rows = "".join(f"IMG_{item}.jpg,{key(item)}\n" for item in range(ITEMS))
    (work / "downloads/names.csv").write_text("photo,item_id\n" + rows)
    assert new.main(["home", "--from", "downloads"]) == 0
    assert profiles.merged(["home"], work)["datasets"]["home"]["photo_keys"] == "names.csv"
    assert f"photos: {ITEMS} of {ITEMS} used" in (work / "profiles/home.yaml").read_text()


def test_a_matrix_of_vectors_needs_the_keys_of_its_rows(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vip5")
    official_ratings(work / "downloads")
    np.save(work / "downloads/image_feat.npy", np.ones((ITEMS, 8), np.float32))
    assert new.main(["home", "--from", "downloads"]) == 0
    assert "a matrix needs a file of its rows' item keys" in caplog.text
    rows = "".join(f"{key(item)}\t{item}\n" for item in range(ITEMS))
    (work / "downloads/i_id_mapping.csv").write_text("asin\titemID\n" + rows)
    assert new.main(["home", "--from", "downloads", "--force"]) == 0
    entry = profiles.merged(["home"], work)["datasets"]["home"]
    assert (entry["vectors"], entry["vector_keys"]) == ("image_feat.npy", "i_id_mapping.csv")


def test_it_says_what_it_leaves_aside(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vip5")
    amazon(work / "downloads")
    shutil.copy(work / "downloads/Home_5.json.gz", work / "downloads/Home.json.gz")
    assert new.main(["home", "--from", "downloads"]) == 0
    assert "left aside: README.txt" in caplog.text
    assert "by its name a part or copy of" in caplog.text
    assert "make run PROFILE=home" in caplog.text


def test_without_titles_the_gate_needs_no_bm25(work: Path) -> None:
    profile = made(work, official_ratings)
    assert profile["retrain"]["gate"]["baselines"] == ["popularity", "item_knn"]  # type: ignore[index]
    assert profile["pretrain"]["families"] == ["sequential", "direct"]  # type: ignore[index]


def test_a_sparse_folder_gets_a_smaller_core(work: Path) -> None:
    rows = [
        f"u{user},i{(user * 7 + step * 11) % 40},4.0,{when(user * 4 + step)}" for user in range(50) for step in range(4)
    ]
    (work / "downloads/r.csv").write_text("user,item,rating,time\n" + "\n".join(rows) + "\n")
    assert new.main(["home", "--from", "downloads"]) == 0
    assert profiles.merged(["home"], work)["sequences"]["k_core"] == 4


REFUSED = {
    "a page": ("reviews.jsonl", "<html><body>403</body></html>", "reviews.jsonl looks like an HTML page"),
    "items alone": ("movies.csv", "movieId,title,genres\n1,A,B\n", "movies.csv looks like a CSV table"),
    "too few": ("r.csv", "user,item,rating,time\n1,2,3.0,1400000000\n", "a 5-core of 0 users"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses_with_what_it_saw(work: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    name, content, said = REFUSED[case]
    (work / "downloads" / name).write_text(content)
    assert new.main(["home", "--from", "downloads"]) == 3
    assert said in caplog.text
    assert not list((work / "profiles").iterdir())
    assert not (work / "data").exists()
    assert not (work / "work/first_look/home").exists()


def test_it_names_the_subfolder_with_the_files(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    (work / "downloads/ml").mkdir()
    movielens(work / "downloads/ml")
    assert new.main(["home", "--from", "downloads"]) == 3
    assert "use --from downloads/ml" in caplog.text
    assert new.main(["home", "--from", "downloads/ml"]) == 0


@pytest.mark.parametrize(
    ("name", "safe"), [("Home&Kitchen", "home_kitchen"), ("a b", "a_b"), ("../x", "x"), ("e;touch X", "e_touch_x")]
)
def test_unsafe_names_are_refused_with_a_safe_one(
    work: Path, caplog: pytest.LogCaptureFixture, name: str, safe: str
) -> None:
    assert new.main([name, "--from", "downloads"]) == 2
    assert f"name it {safe}" in caplog.text


def test_nothing_is_overwritten_unless_forced(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(work, official_ratings)
    (work / "profiles/home.yaml").write_text("dataset: mine\n")
    assert new.main(["home", "--from", "downloads"]) == 2
    assert (work / "profiles/home.yaml").read_text() == "dataset: mine\n"
    assert new.main(["home", "--from", "downloads", "--force"]) == 0
    assert new.main(["gift_cards", "--from", "downloads"]) == 2
    assert "use my_gift_cards" in caplog.text


def years(folder: Path) -> None:
    (folder / "Home_5.json").write_bytes(lines(reviews_2018()))
    old = [
        {"asin": key(n), "title": f"Kettle {n}", "categories": [["Home"]], "imUrl": "http://x"} for n in range(ITEMS)
    ]
    (folder / "meta_Home.json").write_text("".join(f"{one!r}\n" for one in old))


def without_times(folder: Path) -> None:
    rows = [f'"{user}";"{key(item)}";"{1 + number % 10}"' for number, (user, item) in enumerate(PAIRS)]
    (folder / "Ratings.csv").write_text('"User-ID";"ISBN";"Book-Rating"\n' + "\n".join(rows) + "\n")


def packed(folder: Path) -> None:
    rows = [f"{user},{item},4,{when(number)}" for number, (user, item) in enumerate(PAIRS)]
    with zipfile.ZipFile(folder / "Home.zip", "w") as archive:
        archive.writestr("Home/ratings.csv", "user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
        archive.writestr("Home/.DS_Store", b"x")
        archive.writestr("__MACOSX/Home/._ratings.csv", b"x")


def decimal_commas(folder: Path) -> None:
    rows = [f"{number};{user};{item};4,5;{when(number)}" for number, (user, item) in enumerate(PAIRS)]
    (folder / "ratings.csv").write_text(";user;item;rating;timestamp\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("make", "form"),
    [(years, "amazon2014"), (without_times, "ratings"), (packed, "ratings"), (decimal_commas, "ratings")],
)
def test_mixed_folders_lose_nothing(work: Path, make: Callable[[Path], None], form: str) -> None:
    from pipelines import records, sequences

    entry = made(work, make)["datasets"]["home"]  # type: ignore[index]
    assert entry["format"] == form
    params = str(write_pipeline(["home"]).with_name("params.yaml"))
    assert records.main(["--params", params]) == sequences.main(["--params", params]) == 0
    assert pl.scan_parquet("data/home/sequences/interactions/*.parquet").collect().height == len(PAIRS)


def test_metadata_of_other_keys_is_left_aside(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    official_ratings(work / "downloads")
    rows = "".join(f"{key(item).lower()},Kettle {item}\n" for item in range(ITEMS))
    (work / "downloads/items.csv").write_text("item_id,title\n" + rows)
    assert new.main(["home", "--from", "downloads"]) == 0
    assert f"no metadata is used: metadata rows: 0 of {ITEMS} used" in caplog.text
    assert profiles.merged(["home"], work)["datasets"]["home"]["metadata"] == []


REMEDIES = {
    "zip": ("ml.zip", "", "do: unpack ml.zip into a folder of its own and use --from with that folder"),
    "names": (
        "log.csv",
        "buyer,sku,at\nx,y,z\n",
        "do: name the columns of log.csv user_id, item_id, rating and timest",
    ),
    "pointer": ("r.csv", "version https://git-lfs.github.com/spec/v1\noid x\n", "fetch it with `git lfs pull`"),
    "items": (
        "x.csv",
        "item_id,title\n" + "".join(f"{item},\n" for item in range(ITEMS)),
        "move x.csv out of the folder,",
    ),
    "no names": ("r.tsv", "1\t2\t5\n2\t3\t4\n", "write a first line with the names of its columns into r.tsv"),
    "pairs": ("Beauty.txt", "1 2\n1 3\n2 2\n" * 9, "write the items of a user in one line of Beauty.txt"),
    "dates": (
        "r.csv",
        "user,item,rating,date\n" + "U,I,4,5/13/2014\n" * 30,
        "as dates such as 2014-05-13, then run this",
    ),
}


@pytest.mark.parametrize("case", REMEDIES)
def test_a_refusal_names_what_helps_here(work: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    name, text, said = REMEDIES[case]
    (work / "downloads" / name).write_text(text)
    if case == "zip":
        with zipfile.ZipFile(work / "downloads" / name, "w") as archive:
            archive.writestr("ml/ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.0,1400000000\n")
            archive.writestr("ml/movies.csv", "movieId,title,genres\n1,A,B\n")
    if case == "items":
        official_ratings(work / "downloads")
    assert new.main(["home", "--from", "downloads"]) == 3
    assert said in caplog.text


def test_the_remedy_for_tables_without_names_helps(work: Path) -> None:
    rows = "".join(f"{user}\t{item}\t{1 + user % 5}\n" for user, item in PAIRS)
    (work / "downloads/r.tsv").write_text(rows)
    assert new.main(["home", "--from", "downloads"]) == 3
    (work / "downloads/r.tsv").write_text("user_id\titem_id\trating\n" + rows)
    assert new.main(["home", "--from", "downloads"]) == 0


def test_loose_photos_are_counted_not_listed(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vip5")
    official_ratings(work / "downloads")
    for item in range(ITEMS):
        Image.new("RGB", (32, 32)).save(work / f"downloads/{key(item).lower()}.JPG", "JPEG")
    with zipfile.ZipFile(work / "downloads/more.zip", "w") as archive:
        archive.write(work / f"downloads/{key(0).lower()}.JPG", "more.jpg")
    assert new.main(["home", "--from", "downloads"]) == 0
    assert f"new: {ITEMS - 4} more photos or archives of photos" in caplog.text
    assert "unpack it): unpack it into a folder of its own here to use it" in caplog.text
    assert f"photos: {ITEMS} of {ITEMS} used" in caplog.text


def test_only_strange_files_beside_photos_are_named(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    amazon(work / "downloads")
    (work / "downloads/photos.tar").rename(work / "downloads/posters-0.tar")
    shutil.copy(work / "downloads/posters-0.tar", work / "downloads/posters-1.tar")
    assert new.main(["home", "--from", "downloads"]) == 0
    assert "left aside: README.txt in downloads: neither photos nor tar archives" in caplog.text
