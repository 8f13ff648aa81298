import gzip
import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import InputError, ParamsError, TableError
from features.runtime.stage import Context
from features.store import tables
from pipelines import records, sample
from pipelines.parsing import line_accounts
from tests.pipelines.review_2014 import GOOD, dumped


def ingest(
    root: Path, files: Mapping[str, bytes], form: str, reviews: list[str], metadata: list[str], **params: float
) -> Context:
    context = Context(
        dataset="tiny", root=root, seed=1,
        shared={"datasets": {"format": form, "reviews": reviews, "metadata": metadata}, "beam": {}},
    )  # fmt: skip
    context.raw.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (context.raw / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    records.run(records.Params(**params), context)
    return context


def rows(context: Context, name: str) -> list[dict[str, Any]]:
    table = {"reviews": schema.REVIEWS, "items": schema.ITEMS, "rejects": schema.REJECTS}[name]
    return list(tables.read_table(context.table(f"records/{name}"), table).to_pylist())


def test_2023_unites_variants_and_reads_milliseconds(tmp_path: Path) -> None:
    review = {
        "rating": 5.0, "title": "Fine", "text": "It works.", "images": [], "asin": "V1", "parent_asin": "P1",
        "user_id": "U1", "timestamp": 1588687728923, "helpful_vote": 3, "verified_purchase": True,
    }  # fmt: skip
    item = {
        "main_category": "Lamps", "title": "Lamp", "price": 9.99, "store": "Tav", "categories": [], "parent_asin": "P1",
        "description": [], "images": [
            {"variant": "PT01", "large": "https://a/2.jpg"},
            {"variant": "MAIN", "hi_res": None, "large": "https://a/1.jpg"},
        ],
    }  # fmt: skip
    files = {"r.jsonl": dumped(review) + b"\n", "m.jsonl.gz": dumped(item)}
    context = ingest(tmp_path, files, "amazon2023", ["r.jsonl"], ["m.jsonl.gz"])
    [found] = rows(context, "reviews")
    assert (found["item_key"], found["timestamp"], found["helpful_votes"], found["headline"]) == (
        "P1",
        1588687728,
        3,
        "Fine",
    )
    [thing] = rows(context, "items")
    assert (thing["categories"], thing["image_url"], thing["brand"], thing["description"]) == (
        ["Lamps"], "https://a/1.jpg", "Tav", None,
    )  # fmt: skip


def test_p5_lines_become_one_row_an_interaction(tmp_path: Path) -> None:
    maps = {"id2user": {"1": "U1", "2": "U2", "3": "U3"}, "id2item": {"1": "A", "2": "B"}}
    files = {
        "sequential_data.txt": b"1 2 1\n2 1\n3 1 9\n3\n4 1\nx 1\n",
        "datamaps.json": json.dumps(maps).encode(),
        "items.jsonl.gz": b'{"asin": "A", "title": "Lamp", "categories": [["Home", "Lamps"]]}\n',
    }
    context = ingest(
        tmp_path, files, "p5", ["sequential_data.txt", "datamaps.json"], ["items.jsonl.gz"], max_rejected_share=1
    )
    found = [(r["user_key"], r["item_key"], r["line"], r["position"], r["rating"]) for r in rows(context, "reviews")]
    assert found == [("U1", "B", 1, 1, None), ("U1", "A", 1, 2, None), ("U2", "A", 2, 1, None)]
    assert [(r["line"], r["reason"]) for r in rows(context, "rejects")] == [
        (3, "unknown_number"), (4, "bad_sequence"), (5, "unknown_number"), (6, "bad_sequence"),
    ]  # fmt: skip
    account = tables.read_manifest(context.table("records/reviews"))["notes"]["files"]["sequential_data.txt"]
    assert (account["lines"], account["kept"], account["rejected"], account["rows"]) == (6, 2, 4, 3)


BUNDLE_REVIEW = {
    "reviewerID": "U1", "asin": "A", "reviewerName": "Kelo", "helpful": [2, 3], "overall": 4.0, "summary": "Good",
    "reviewText": "The &quot;lid&quot; fits.", "unixReviewTime": 1393545600, "feature": "lid",
    "explanation": "The lid fits &amp; holds",
}  # fmt: skip
MAPS = {"id2user": {"1": "U1", "2": "U2"}, "id2item": {"1": "A", "2": "B"}}


def ingest_bundle(root: Path, names: object, splits: object) -> Context:
    files = {
        "sequential_data.txt": b"1 2 1\n2 1\n", "datamaps.json": json.dumps(MAPS).encode(),
        "user_id2name.pkl": pickle.dumps(names, 3), "exp_splits.pkl": pickle.dumps(splits, 3),
    }  # fmt: skip
    return ingest(root, files, "p5", list(files), [])


def test_the_pickles_of_a_p5_bundle_reach_the_tables(tmp_path: Path) -> None:
    splits = {"train": [BUNDLE_REVIEW], "val": [], "test": [BUNDLE_REVIEW | {"reviewerID": "stranger"}]}
    context = ingest_bundle(tmp_path, {"1": "Kelo &amp; Tav", "2": ""}, splits)
    wanted = ("user_name", "rating", "timestamp", "headline", "text", "helpful_votes", "feature", "explanation")
    assert [tuple(row[name] for name in wanted) for row in rows(context, "reviews")] == [
        ("Kelo & Tav", None, None, None, None, None, None, None),
        ("Kelo & Tav", 4.0, None, "Good", 'The "lid" fits.', 2, "lid", "The lid fits & holds"),
        (None, None, None, None, None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("names", "splits", "message"),
    [
        ({"1": print}, {}, r"user_id2name\.pkl with the global (builtins|__builtin__)\.print at byte \d+"),
        ({"1": 7}, {}, "user_id2name.pkl without names"),
        ({}, [], "exp_splits.pkl without review records"),
        ({}, {"train": [7]}, "exp_splits.pkl without review records"),
        ({}, {"train": [BUNDLE_REVIEW | {"overall": 9}]}, r"an invalid review record \(bad_rating\): .*'asin': 'A'"),
    ],
)
def test_a_pickle_that_is_not_what_it_says_is_one_error(
    tmp_path: Path, names: object, splits: object, message: str
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        ingest_bundle(tmp_path, names, splits)
    assert not (tmp_path / "data" / "tiny").exists()


@pytest.fixture(scope="module")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    sample.run(sample.Params(), Context(dataset="sample", root=root, seed=2022, shared={}))
    return root


def sample_context(root: Path, runner: str = "FnApiRunner") -> Context:
    entry = {"format": "amazon2014", "reviews": [sample.REVIEWS], "metadata": [sample.METADATA]}
    return Context(dataset="sample", root=root, seed=2022, shared={"datasets": entry, "beam": {"runner": runner}})


def test_sample_lines_are_kept_or_have_the_planted_reason(sample_root: Path) -> None:
    context = sample_context(sample_root)
    records.run(records.Params(), context)
    accounts = tables.read_manifest(context.table("records/rejects"))["notes"]["files"]
    for name, account in accounts.items():
        lines = gzip.decompress((context.raw / name).read_bytes()).count(b"\n")
        assert lines == account["lines"] == account["kept"] + account["rejected"]
    reasons = {name: count for name, count in accounts[sample.REVIEWS].items() if name.startswith("rejected:")}
    assert reasons == {
        "rejected:bad_rating": 9, "rejected:bad_time": 3, "rejected:missing_item": 3, "rejected:missing_rating": 3,
        "rejected:missing_time": 3, "rejected:missing_user": 3, "rejected:not_an_object": 3,
        "rejected:not_parsable": 6, "rejected:not_utf8": 3,
    }  # fmt: skip
    reasons = {name: count for name, count in accounts[sample.METADATA].items() if name.startswith("rejected:")}
    assert reasons == {"rejected:duplicate_item": 6, "rejected:missing_item": 3, "rejected:not_parsable": 6}


def test_tables_do_not_depend_on_the_number_of_workers(sample_root: Path) -> None:
    context, made = sample_context(sample_root), []
    for readers_per_file in (1, 3):
        records.run(records.Params(readers_per_file=readers_per_file, lines_per_block=200), context)
        files = sorted(context.table("records").rglob("*.*"))
        made.append({path.relative_to(context.root): path.read_bytes() for path in files if path.is_file()})
    assert made[0] == made[1]
    lines = gzip.decompress((context.raw / sample.REVIEWS).read_bytes()).count(b"\n")
    assert sum("records/reviews/part" in str(path) for path in made[0]) == -(-lines // 200) > 10


def test_of_two_lines_of_an_item_the_first_is_kept(tmp_path: Path) -> None:
    lines = [b"{'asin': 'B1', 'title': 'One'}", b"{'asin': 'B2'}", b"{'asin': 'B1', 'title': 'Two'}", b"nonsense"]
    context = ingest(
        tmp_path, {"r.json": dumped(GOOD), "m.json": b"\n".join(lines)}, "amazon2014", ["r.json"], ["m.json"],
        lines_per_block=2,
    )  # fmt: skip
    assert [(r["item_key"], r["title"], r["line"]) for r in rows(context, "items")] == [
        ("B1", "One", 1),
        ("B2", None, 2),
    ]
    assert [(r["line"], r["reason"], r["excerpt"]) for r in rows(context, "rejects")] == [
        (3, "duplicate_item", "B1, first in line 1 of m.json"),
        (4, "not_parsable", "nonsense"),
    ]
    assert not list(context.table("records").rglob("*.tmp"))


def test_a_truncated_archive_gives_its_lines_and_one_reject(tmp_path: Path) -> None:
    data = b"".join(dumped(GOOD | {"reviewerID": f"U{n}", "reviewText": f"{n * n:x}" * 9}) + b"\n" for n in range(500))
    whole = gzip.compress(data, mtime=0)
    files = {"r.json": b"", "m.json": b""}
    context = ingest(tmp_path, files, "amazon2014", ["r.json"], ["m.json"], max_rejected_share=1)
    assert rows(context, "reviews") == rows(context, "items") == rows(context, "rejects") == []
    (context.raw / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    context.shared["datasets"]["reviews"] = ["cut.json.gz"]
    with pytest.raises(
        InputError, match=r"cut\.json\.gz that is damaged or cut short after \d+ whole lines.*allow_truncated: true"
    ):
        records.run(records.Params(), context)
    assert rows(context, "reviews") == []
    records.run(records.Params(allow_truncated=True), context)
    kept, [reject] = rows(context, "reviews"), rows(context, "rejects")
    assert 150 < len(kept) < 350
    assert (reject["line"], reject["reason"]) == (len(kept) + 1, "truncated_file")


def test_a_long_line_is_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    long = dumped(GOOD | {"reviewText": "x" * 400_000})
    context = ingest(
        tmp_path, {"r.json": long + b"\n" + dumped(GOOD) + b"\n" + long, "m.json": b""}, "amazon2014", ["r.json"],
        ["m.json"], max_line_bytes=1000, max_rejected_share=1,
    )  # fmt: skip
    assert [row["line"] for row in rows(context, "reviews")] == [2]
    assert [(row["line"], row["reason"]) for row in rows(context, "rejects")] == [
        (1, "line_too_long"),
        (3, "line_too_long"),
    ]


def test_a_missing_dump_says_what_to_do(tmp_path: Path) -> None:
    context = Context(
        dataset="tiny", root=tmp_path, seed=1,
        shared={"datasets": {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": []}, "beam": {}},
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"no folder .*raw/tiny.*r\.json\.gz.*python -m flows\.ingest tiny --from FOLDER"
    ):
        records.run(records.Params(), context)
    context.raw.mkdir(parents=True)
    with pytest.raises(InputError, match=r"no file .*raw/tiny/r\.json\.gz"):
        records.run(records.Params(), context)
    assert not context.table("records").exists()


@pytest.mark.parametrize(
    ("form", "files", "message"),
    [
        ("amazon2014", {"r.json.gz": b"<html>"}, "r.json.gz that is not gzip (it begins with b'<html>')"),
        ("p5", {"s.txt": b"1 1", "datamaps.json": b"{}"}, "datamaps.json without number maps"),
        ("p5", {"s.txt": b"1 1", "datamaps.json": b"{"}, "datamaps.json that is not JSON"),
        ("p6", {"r.json": b""}, "datasets.tiny.format = 'p6'"),
        ("amazon2014", {"../r.json": b""}, "file name '../r.json' must lie inside"),
    ],
)
def test_an_invalid_dump_is_one_error_and_writes_nothing(
    workspace: Path, caplog: pytest.LogCaptureFixture, form: str, files: dict[str, bytes], message: str
) -> None:
    params = {
        "dataset": "tiny", "seed": 1, "beam": {}, "records": {},
        "datasets": {"tiny": {"format": form, "reviews": list(files), "metadata": []}},
    }  # fmt: skip
    (workspace / "params.yaml").write_text(json.dumps(params))
    raw = workspace / "data" / "raw" / "tiny"
    raw.mkdir(parents=True)
    for name, data in files.items():
        (raw / name).write_bytes(data)
    assert records.main([]) != 0
    assert message in caplog.records[-1].getMessage()
    assert not (workspace / "data" / "tiny").exists()


def test_a_runner_that_loses_rows_is_refused(sample_root: Path) -> None:
    with pytest.raises(ParamsError, match="DaskRunner"):
        records.run(records.Params(), sample_context(sample_root, "DaskRunner"))


def test_lost_work_is_noticed() -> None:
    with pytest.raises(TableError, match=r"9 lines of x read by 2 readers that saw 20"):
        line_accounts.check_counts({"x:seen": 20, "x:lines": 9, "x:kept": 9}, ["x"], 2)
    with pytest.raises(TableError, match="8 kept, 1 rejected"):
        line_accounts.check_counts({"x:seen": 10, "x:lines": 10, "x:kept": 8, "x:rejected": 1}, ["x"], 1)


@pytest.mark.real
def test_musical_instruments_has_its_published_counts(tmp_path: Path, real_data: Path) -> None:
    context = Context(
        dataset="musical_instruments", root=tmp_path, seed=1,
        shared={
            "datasets": {
                "format": "amazon2014", "reviews": ["reviews_Musical_Instruments_5.json.gz"],
                "metadata": ["meta_Musical_Instruments.json.gz"],
            },
            "beam": {},
        },
    )  # fmt: skip
    shutil.copytree(real_data / "amazon2014" / "musical_instruments", context.raw)
    records.run(records.Params(readers_per_file=2, lines_per_block=3000), context)
    reviews, items = rows(context, "reviews"), rows(context, "items")
    assert (len(reviews), len(items), rows(context, "rejects")) == (10_261, 900, [])
    assert sum(row["text"] is None for row in reviews) == 7
    assert sum(row["user_name"] is None for row in reviews) == 27
    assert sum(row["image_url"] is not None for row in items) == 898
    assert sum(row["brand"] is not None for row in items) == 794


@pytest.mark.real
def test_gift_cards_of_2018_have_their_published_counts(tmp_path: Path, real_data: Path) -> None:
    entry = {"format": "amazon2018", "reviews": ["Gift_Cards_5.json.gz"], "metadata": ["meta_Gift_Cards.json.gz"]}
    context = Context(dataset="gift_cards", root=tmp_path, seed=1, shared={"datasets": entry, "beam": {}})
    shutil.copytree(real_data / "amazon2018" / "gift_cards", context.raw)
    records.run(records.Params(), context)
    reviews, items = rows(context, "reviews"), rows(context, "items")
    assert (len(reviews), len(items), rows(context, "rejects")) == (2972, 1547, [])
    assert {row["item_key"] for row in reviews} <= {row["item_key"] for row in items}
    assert (sum(row["verified"] for row in reviews), sum(row["variant"] is not None for row in reviews)) == (2838, 864)
    pairs = [(row["user_key"], row["item_key"]) for row in reviews]
    assert len(pairs) - len(set(pairs)) == 7
