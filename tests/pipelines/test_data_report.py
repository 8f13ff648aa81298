import dataclasses
import io
import re
import shutil
from pathlib import Path

import jinja2
import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from features import schema
from features.errors import TableError
from features.runtime import stage
from features.store.embeddings import vector_table
from features.store.tables import Provenance, from_rows, write_table
from pipelines import data_report, records, sequences
from pipelines.reporting.data_summary import distinct, flow, frame, missing
from pipelines.reporting.distributions import concentration, gaps, histogram, months
from pipelines.reporting.photo_gallery import neighbours
from pipelines.sequencing.config import Params

TITLE = "<script>alert('kettle')</script>"


def write(root: Path, table: schema.Table, rows: list[dict[str, object]], **notes: object) -> None:
    whole = [{column.name: None for column in table.columns if column.nullable} | row for row in rows]
    write_table(
        root / "data/shop" / table.name, table, from_rows(table, whole), Provenance(stage="t", params={}, notes=notes)
    )


def shop(root: Path, photos: str | None = "photos", **rules: object) -> stage.Context:
    """Two users of the catalogue's two items; one photo is accepted, the other one rejected."""
    review = {"rating": 4.0, "timestamp": 1_400_000_000, "source": "r.gz", "position": 0}
    pairs = [("U1", "B1"), ("U1", "B2"), ("U2", "B1"), ("U2", "B2"), ("U2", "B2"), ("U3", "B9")]
    reviews = [
        review | {"user_key": user, "item_key": item, "line": line} for line, (user, item) in enumerate(pairs, 1)
    ]
    later = {"user_key": "U1", "item_key": "B1", "line": 8, "timestamp": 1_500_000_000}
    write(root, schema.REVIEWS, [*reviews, review | later])
    write(root, schema.ITEMS, [{"item_key": "B1", "title": TITLE, "categories": [], "source": "m.gz", "line": 1}])
    write(root, schema.REJECTS, [
        {"source": "r.gz", "line": 7, "reason": "not_parsable", "excerpt": "<b>broken"},
        {"source": "m.gz", "line": 2, "reason": "not_utf8", "excerpt": "x"},
    ])  # fmt: skip
    write(root, schema.USERS, [{"user_id": n, "number": n, "user_key": f"U{n}", "num_interactions": 2} for n in (1, 2)])
    write(root, schema.CATALOGUE, [
        {"item_id": 1, "item_key": "B1", "title": TITLE, "num_interactions": 2, "num_train": 0},
        {"item_id": 2, "item_key": "B2", "num_interactions": 2, "num_train": 0},
    ])  # fmt: skip
    write(root, schema.INTERACTIONS, [
        {"user_id": user, "position": position, "item_id": position, "split": split, "timestamp": 1_400_000_000}
        for user in (1, 2) for position, split in ((1, "valid"), (2, "test"))
    ])  # fmt: skip
    write(root, schema.EXPLANATIONS, [])
    write(root, schema.IDENTIFIERS, [
        {"item_id": n, "code": [n], "text": f"<item_{n}>"} for n in (1, 2)
    ], scheme="token", tokens=2, collisions=0)  # fmt: skip
    table = schema.embeddings(2)
    rows = vector_table(
        table, [1, 2], np.array([[1, 0], [0, 0]]), {"status": ["ok", "rejected"], "sha256": ["a", None]}
    )
    notes = {
        "encoder": {"model": "vip5-tiny", "pretrained": None, "untrained": True},
        "counts": {"items": 2, "ok": 1, "missing": 0, "rejected": 1}, "reasons": {"empty": 1},
    }  # fmt: skip
    write_table(root / "data/shop/images/embeddings", table, rows, Provenance(stage="t", params={}, notes=notes))
    write(root, schema.PHOTO_REJECTS, [{"item_id": 2, "source": "B2.jpg", "reason": "empty", "detail": "0 bytes"}])
    folder = root / "data/raw/shop/photos"
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (60, 60), "teal").save(buffer, format="JPEG")
    (folder / "B1.jpg").write_bytes(buffer.getvalue())
    (folder / "B2.jpg").write_bytes(b"")
    dataset = {"format": "amazon2014", "reviews": ["r.gz"], "metadata": ["m.gz"], "photos": photos}
    rules = {"k_core": 2, "duplicate_reviews": "first", "max_interactions_per_user": None, "tie_break": "hash"} | rules
    return stage.Context(dataset="shop", root=root, seed=1, shared={"datasets": dataset, "sequences": rules})


def pages(root: Path) -> tuple[str, str]:
    folder = root / "reports/shop"
    return (folder / "data.html").read_text(encoding="utf-8"), (folder / "photos.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """The page's text, with tags and white space replaced by single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("<body>")[1]))


def test_the_counts_of_every_step_are_shown(tmp_path):
    assert data_report.run(data_report.Params(), shop(tmp_path)) == 2
    text = words(pages(tmp_path)[0])
    for expected in (
        "lines of the review files 8", "accepted reviews 1 lines rejected 7",
        "distinct in user, item and time 1 duplicates merged 6",
        "one per user and item 1 later repeats, the first one kept 5",
        "interactions in the sequences 1 below the 2-core 4", "train split 0", "valid split 2", "test split 2",
        "accepted reviews 3 3 7", "sequences 2 2 4", "test split 2 1 2", "m.gz 1 1", "r.gz 7 1", "not_parsable 1",
        "lines of the metadata files 2 accepted lines 1 lines rejected 1", "with metadata 1 with a title 1",
        "with a photo in use 0 missing, 1 refused 1", "2014-05-13 first day",
    ):  # fmt: skip
        assert expected in text


def test_what_users_wrote_is_escaped(tmp_path):
    data_report.run(data_report.Params(), shop(tmp_path))
    for page in pages(tmp_path):
        assert "<script" not in page
        assert "&lt;script&gt;alert(&#39;kettle&#39;)" in page
    assert "&lt;b&gt;broken" in pages(tmp_path)[0]


def test_pages_are_self_contained_and_repeatable(tmp_path):
    for name in ("a", "b"):
        data_report.run(data_report.Params(), shop(tmp_path / name))
    assert pages(tmp_path / "a") == pages(tmp_path / "b")
    for page in pages(tmp_path / "a"):
        assert not re.findall(r"https?://|//cdn|<link|<iframe|url\(", page)
        assert 'name="viewport"' in page
        links = re.findall(r'(?:href|src)="([^"]*)"', page)
        assert all(link in {"data.html", "photos.html"} or link.startswith("data:image/jpeg;base64,") for link in links)


def test_photos_are_shown_and_rejects_have_their_reason(tmp_path):
    data_report.run(data_report.Params(), shop(tmp_path))
    page = pages(tmp_path)[1]
    assert page.count("data:image/jpeg;base64,") == 3  # in its group, on the map, and as a query
    text = words(page)
    assert "2 items: 1 photos in use, 0 missing, 1 refused." in text
    assert "Group 1 1 items" in text
    assert page.count("<circle") == page.count("<image") == 1
    assert "B2 empty: 0 bytes" in text
    assert "untrained" in text


def test_a_dataset_without_photos_has_its_pages_too(tmp_path):
    data_report.run(data_report.Params(), shop(tmp_path, photos=None))
    assert "data:image" not in pages(tmp_path)[1]


def test_sections_without_values_are_left_out(tmp_path):
    context = shop(tmp_path, photos=None)
    write(tmp_path, schema.REVIEWS, [
        {"user_key": "U1", "item_key": f"B{n}", "source": "r.gz", "line": n, "position": n} for n in (1, 2)
    ])  # fmt: skip
    write(tmp_path, schema.REJECTS, [])
    write(tmp_path, schema.PHOTO_REJECTS, [])
    table = schema.embeddings(2)
    rows = vector_table(table, [1, 2], np.zeros((2, 2)), {"status": ["missing"] * 2, "sha256": [None] * 2})
    counts = {"items": 2, "ok": 0, "missing": 2, "rejected": 0}
    notes = {"encoder": {"model": "x", "pretrained": None, "untrained": True}, "counts": counts, "reasons": {}}
    write_table(tmp_path / "data/shop/images/embeddings", table, rows, Provenance(stage="t", params={}, notes=notes))
    write(tmp_path, schema.INTERACTIONS, [
        {"user_id": user, "position": n, "item_id": 1 + n % 2, "split": "train"}
        for user in (1, 2)
        for n in range(1, 31)
    ])  # fmt: skip
    assert data_report.run(data_report.Params(), context) == 2
    page = words(pages(tmp_path)[0])
    for absent in ("Stars", "stars", "day", "by month", "Explanations", "headline No text", "none", "nan", "null "):
        assert absent not in page.replace("weights none", "").replace("dump are null ", ""), absent
    assert "Every line was accepted." in page
    photos = words(pages(tmp_path)[1])
    assert "This dataset has no photos." in photos
    assert "Nearest in feature space" not in photos
    assert "Refused photos" not in photos
    assert "user 1 the newest 20 of 30 interactions" in page


def test_an_absent_table_is_one_clear_line_and_leaves_no_page(tmp_path):
    context = shop(tmp_path)
    (tmp_path / "data/shop/records/reviews/_manifest.json").unlink()
    with pytest.raises(TableError, match="a half-written table"):
        data_report.run(data_report.Params(), context)
    assert not (tmp_path / "reports").exists()


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        data_report.render("photos.html", {"dataset": "shop"})


def test_histogram_bins_are_half_open_and_may_be_empty():
    counts = pl.LazyFrame({"len": [5, 5, 9, 12]})
    found = [(bar["name"], bar["count"]) for bar in histogram(counts, "len", (1, 5, 6, 8, 10))]
    assert found == [("5", 2), ("6-7", 0), ("8-9", 1), ("10+", 1)]
    assert histogram(counts.head(0), "len", (1, 5)) == []


def test_missing_values_are_counted_by_column():
    rows = pl.LazyFrame({
        "item_key": list("abcd"), "title": ["x", None, None, None], "brand": ["x"] * 4, "price": [None, None, 1.0, 2.0],
        "categories": [["a"], [], ["a"], ["a"]], "description": [None] * 4, "image_url": ["x"] * 4,
        "source": ["m"] * 4, "line": [1, 2, 3, 4],
    })  # fmt: skip
    assert [(bar["name"], bar["count"], bar["width"]) for bar in missing(rows, schema.ITEMS)] == [
        ("title", 3, 75.0), ("brand", 0, 0.0), ("price", 2, 50.0), ("description", 4, 100.0), ("image_url", 0, 0.0),
        ("categories", 1, 25.0),
    ]  # fmt: skip


@pytest.mark.parametrize("rows_per_pass", [1, 2, 100])
def test_distinct_counts_do_not_depend_on_the_passes(rows_per_pass):
    rows = pl.LazyFrame({"a": [1, 1, 1, 2, 2], "b": ["x", "x", None, None, "x"]})
    assert distinct(rows, "a", "b", rows_per_pass=rows_per_pass) == 4
    assert distinct(rows, "b", rows_per_pass=rows_per_pass) == 2
    assert distinct(rows.head(0), "a", rows_per_pass=rows_per_pass) == 0


def test_a_fully_rejected_review_file_is_counted(tmp_path):
    context = shop(tmp_path)
    context.shared["datasets"]["reviews"].append("bad.gz")
    reject = {"line": 1, "reason": "not_utf8", "excerpt": "x"}
    write(tmp_path, schema.REJECTS, [reject | {"source": name} for name in ("bad.gz", "m.gz")])
    data_report.run(data_report.Params(), context)
    text = words(pages(tmp_path)[0])
    assert "lines of the review files 8 accepted reviews 1 lines rejected 7" in text
    assert "bad.gz 0 1" in text


def test_duplicate_reviews_all_counts_every_review(tmp_path):
    data_report.run(data_report.Params(), shop(tmp_path, duplicate_reviews="all", max_interactions_per_user=50))
    text = words(pages(tmp_path)[0])
    assert "one per user and item" not in text
    assert "interactions in the sequences 2 below the 2-core or before a user&#39;s newest 50 4" in text


def test_gaps_are_whole_days_between_dated_interactions():
    day = 24 * 60 * 60
    rows = pl.LazyFrame({
        "user_id": [1, 1, 1, 1, 2, 2, 3, 3],
        "timestamp": [0, day - 1, day - 1 + 3 * day, 800 * day, 0, 5 * day, None, 9],
    })  # fmt: skip
    found = {bar["name"]: bar["count"] for bar in gaps(rows) if bar["count"]}
    assert found == {"the same day": 1, "2 to 6 days": 2, "2 years or more": 1}
    assert gaps(rows.filter(pl.col("timestamp").is_null())) == []


def test_months_without_interactions_are_shown_as_empty_columns():
    rows = pl.LazyFrame({"timestamp": [1_388_534_400, 1_388_534_401, 1_393_632_000, None]})
    assert [(bar["name"], bar["count"], bar["width"]) for bar in months(rows)] == [
        ("2014-01", 2, 100.0), ("2014-02", 0, 0.0), ("2014-03", 1, 50.0),
    ]  # fmt: skip
    assert months(rows.filter(pl.col("timestamp").is_null())) == []


def test_concentration_is_the_share_of_the_most_popular():
    even = concentration(pl.LazyFrame({"len": [3] * 10}))
    assert (even["gini"], even["top"]) == (0.0, [(1, 1.0), (10, 10.0), (50, 50.0)])
    steep = concentration(pl.LazyFrame({"len": [1, 1, 1, 1, 1, 1, 1, 1, 1, 91]}))
    assert steep["top"] == [(1, 9.1), (10, 91.0), (50, 95.0)]
    assert steep["gini"] == 0.81
    assert (steep["points"][0], steep["points"][5], steep["points"][-1]) == ((0.0, 0.0), (10.0, 91.0), (100.0, 100.0))
    assert concentration(pl.LazyFrame({"len": []}, {"len": pl.UInt32}))["points"] == []


def test_neighbours_exclude_the_item_itself_and_empty_ones():
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [0.6, 0.8], [0.0, 0.0]])
    found = neighbours(np.array([1, 2, 3, 7]), vectors, [2], 5)
    assert found == {2: [(3, 0.8), (1, 0.0)]}


def test_a_table_of_an_older_schema_is_one_clear_line(tmp_path):
    context = shop(tmp_path)
    older = dataclasses.replace(
        schema.REVIEWS, columns=schema.REVIEWS.columns[:-1], key=("source", "line"), unique=False
    )
    write(tmp_path, older, [])
    with pytest.raises(TableError, match=r"run `\.venv/bin/dvc repro"):
        data_report.run(data_report.Params(), context)


@pytest.mark.real
@pytest.mark.slow
def test_exact_duplicates_are_separate_from_later_ones(root, workspace, real_data):
    """Gift Cards repeats a user and item 7 times, 3 of them at the same second (README of the real data)."""
    whole = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")) | {"dataset": "gift_cards"}
    Path("params.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    shutil.copytree(real_data / "amazon2018/gift_cards", "data/raw/gift_cards")
    assert [stage_.main([]) for stage_ in (records, sequences)] == [0, 0]
    places = stage.Places(dataset="gift_cards")
    reviews, interactions = (frame(places, table) for table in (schema.REVIEWS, schema.INTERACTIONS))
    read = [("Gift_Cards_5.json.gz", 2972, 0)]
    rules = Params(k_core=5, duplicate_reviews="first", max_interactions_per_user=None)
    steps = flow(reviews, interactions, read, ["Gift_Cards_5.json.gz"], rules)
    assert [(step["count"], step["note"]) for step in steps[1:5]] == [
        (2972, "0 lines rejected"), (2969, "3 duplicates merged"), (2965, "4 later repeats, the first one kept"),
        (2941, "24 below the 5-core"),
    ]  # fmt: skip
