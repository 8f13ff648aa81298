"""`records` judges each file: a dump that is mostly lost ends in one error whose remedy works, tables are untouched."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import InputError
from features.runtime.stage import Context
from features.store import tables
from pipelines import records
from tests.pipelines.review_2014 import GOOD

NUM_LINES = 60


def reviews_2018(**changes: Any) -> list[dict[str, Any]]:
    rows = [
        GOOD
        | {"reviewerID": f"U{n}", "asin": f"B{n % 7}", "unixReviewTime": 1393545600 + n * 86_400, "summary": f"S{n}"}
        for n in range(NUM_LINES)
    ]
    return [
        {k: v for k, v in (row | {"vote": "2", "verified": True} | changes).items() if k != "helpful"} for row in rows
    ]


def reviews_2023(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"user_id": f"U{n}", "parent_asin": f"B{n % 7}", "asin": f"B{n % 7}", "rating": 5.0, "title": f"T{n}",
         "text": f"Text {n}", "timestamp": 1393545600123 + n * 86_400_000, "verified_purchase": True, "images": []}
        | changes
        for n in range(NUM_LINES)
    ]  # fmt: skip


def items_2018() -> list[dict[str, Any]]:
    return [
        {"asin": f"B{n}", "title": f"Lamp {n}", "brand": "Tav", "category": ["Home", f"Lamps {n}"], "price": "$5.00",
         "description": ["A lamp."], "imageURL": [f"https://a/{n}.jpg"], "imageURLHighRes": [], "rank": "1"}
        for n in range(7)
    ]  # fmt: skip


def lines(objects: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def put(root: Path, reviews: bytes, metadata: bytes | None = None, form: str = "amazon2018", **entry: Any) -> Context:
    entry = {"format": form, "reviews": ["r.json"], "metadata": [] if metadata is None else ["m.json"], **entry}
    context = Context(dataset="tiny", root=root, seed=1, shared={"datasets": entry, "beam": {}})
    context.raw.mkdir(parents=True, exist_ok=True)
    (context.raw / "r.json").write_bytes(reviews)
    (context.raw / "m.json").write_bytes(metadata or b"")
    return context


def refused(context: Context, **params: Any) -> str:
    with pytest.raises(InputError) as caught:
        records.run(records.Params(**params), context)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(context: Context, **entry: Any) -> Context:
    """The context after its entry was changed as an error says."""
    context.shared["datasets"].update(entry)
    return context


def put_ratings(root: Path, text: str, **entry: Any) -> Context:
    return put(root, text.encode(), form="ratings", **entry)


def test_ratings_outside_the_range_are_said(tmp_path: Path) -> None:
    rows = [f"U{n},I{n % 7},{0.5 if n % 50 == 0 else 4},{1393545600 + n}" for n in range(300)]
    context = put_ratings(tmp_path, "user,item,rating,time\n" + "\n".join(rows) + "\n")
    records.run(records.Params(), context)
    [warning] = tables.read_manifest(context.table("records/reviews"))["notes"]["warnings"]
    assert warning == (
        "r.json: 6 lines rejected for a rating outside [1, 5]; to keep them, set datasets.tiny.rating_range: [0.5, 5]"
    )
    assert records.run(records.Params(), changed(context, rating_range=[0.5, 5])) == 300


def test_lines_without_times_are_said_to_be_in_order(tmp_path: Path) -> None:
    context = put_ratings(tmp_path, "user,item\n" + "".join(f"U{n},I{n % 7}\n" for n in range(60)))
    records.run(records.Params(), context)
    [warning] = tables.read_manifest(context.table("records/reviews"))["notes"]["warnings"]
    assert warning.startswith("r.json: no times: the order of its lines counts as their order; ")


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ("U,I,4,05/13/2014", "write its times as Unix seconds or as dates such as 2014-05-13"),
        ("U,I,,1393545600", "leave the column of ratings out of r.json if it has none and bring it in again"),
        ("U,I,five,1393545600", "write its ratings as numbers such as 4.5"),
    ],
)
def test_values_in_another_form_name_the_form(tmp_path: Path, row: str, remedy: str) -> None:
    assert remedy in refused(put_ratings(tmp_path, "user,item,rating,time\n" + f"{row}\n" * 60))


def test_files_of_another_release_name_the_format(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2018()), lines(items_2018()), form="amazon2023")
    message = refused(context)
    assert "r.json with 60 of 60 lines rejected (100.0%): missing_user 60 (line 1: no user_id; the line has " in message
    assert (
        "m.json with 7 of 7 lines rejected (100.0%): missing_item 7 (line 1: no parent_asin; the line has " in message
    )
    assert "it looks like Amazon reviews of 2018" in message
    assert message.endswith("do: set datasets.tiny.format: amazon2018")
    assert not context.table("records/reviews").exists()
    assert records.run(records.Params(), changed(context, format="amazon2018")) == NUM_LINES + 7


def test_metadata_of_another_release_loses_no_columns_unsaid(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2018()), lines(items_2018()), form="amazon2014")
    message = refused(context)
    assert "m.json without categories, image_url in any of 7 rows; it looks like Amazon metadata of 2018" in message
    assert message.endswith("do: set datasets.tiny.format: amazon2018")


def test_metadata_of_another_release_than_reviews_is_taken_out(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2023()), lines(items_2018()), form="amazon2023")
    assert refused(context).endswith("do: replace m.json or take it out of datasets.tiny.metadata")
    assert records.run(records.Params(), changed(context, metadata=[])) == NUM_LINES
    other = put(tmp_path / "other", lines(reviews_2023()), lines(items_2018()))
    assert "set datasets.tiny.format: amazon2023 and take m.json (Amazon metadata of 2018" in refused(other)
    assert records.run(records.Params(), changed(other, format="amazon2023", metadata=[])) == NUM_LINES


def test_files_in_the_wrong_list_are_told(tmp_path: Path) -> None:
    context = put(tmp_path, lines(items_2018()), lines(reviews_2018()))
    assert "do: list r.json under datasets.tiny.metadata, not under datasets.tiny.reviews" in refused(context)


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"<!DOCTYPE html>\n<html><body>\n" + b"<p>Not found</p>\n" * 20, "an HTML page"),
        (b"U1,B1,4.0,1393545600\nU2,B1,5.0,1393545600\n" * 20, "a CSV table of 4 columns"),
        (b"\x00\x01\x02\xff" * 200, "binary data"),
    ],
)
def test_other_content_is_named(tmp_path: Path, data: bytes, looks: str) -> None:
    message = refused(put(tmp_path, data))
    assert "lines rejected (100.0%)" in message
    assert f"it looks like {looks}" in message


def test_a_loss_above_the_share_can_be_accepted(tmp_path: Path) -> None:
    rows = reviews_2018()
    for number in range(0, NUM_LINES, 4):
        rows[number]["overall"] = "five stars"
    rows[1]["unixReviewTime"] = "soon"
    context = put(tmp_path, lines(rows))
    message = refused(context)
    assert (
        "r.json with 16 of 60 lines rejected (26.7%): bad_rating 15 (line 1: overall: 'five stars'), bad_time 1"
        in message
    )
    assert message.endswith("or accept the loss with records.max_rejected_share: 0.27")
    assert records.run(records.Params(max_rejected_share=0.27), context) == 44 + 16
    warnings = tables.read_manifest(context.table("records/reviews"))["notes"]["warnings"]
    assert "r.json: 16 of 60 lines rejected (26.7%)" in warnings


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (lines(reviews_2018()).decode().encode("utf-16"), "do: write r.json in UTF-8 and bring it in again"),
        (
            lines(reviews_2018(asin=True)),
            "do: bring in a file of the format amazon2018 as r.json (`.venv/bin/python -m",
        ),
        (gzip.compress(b"x")[:-4] + b"nope", "r.json that is damaged or cut short after 0 whole lines"),
        (lines(reviews_2018(unixReviewTime=16000)), "or set datasets.tiny.time_unit: seconds to use only their order"),
    ],
)
def test_other_faults_have_their_own_remedy(tmp_path: Path, data: bytes, remedy: str) -> None:
    assert remedy in refused(put(tmp_path, data))


def test_ratings_of_another_scale_name_the_range(tmp_path: Path) -> None:
    rows = reviews_2018()
    for number, row in enumerate(rows):
        row["overall"] = number % 20 / 2 + 0.5
    context = put(tmp_path, lines(rows))
    message = refused(context)
    assert "set datasets.tiny.rating_range: [0.5, 10]" in message
    assert records.run(records.Params(), changed(context, rating_range=[0.5, 10])) == NUM_LINES


def test_a_handful_of_bad_lines_in_a_tiny_file_is_accepted(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2018()[:16]) + b"nonsense\n" * 10)
    assert records.run(records.Params(), context) == 16 + 10


def test_an_earlier_run_stays_when_a_file_is_refused(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2018()))
    records.run(records.Params(), context)
    before = {path: path.read_bytes() for path in context.table("records").rglob("*") if path.is_file()}
    (context.raw / "r.json").write_bytes(lines(reviews_2023()))
    refused(context)
    assert before == {path: path.read_bytes() for path in context.table("records").rglob("*") if path.is_file()}


def test_times_in_another_unit_are_named(tmp_path: Path) -> None:
    rows = [row | {"timestamp": row["timestamp"] // 1000} for row in reviews_2023()]
    context = put(tmp_path, lines(rows), form="amazon2023", time_unit="milliseconds")
    message = refused(context)
    assert "r.json with every time in January 1970, the latest 1970-01-17 " in message
    assert message.endswith("do: set datasets.tiny.time_unit: seconds")
    records.run(records.Params(), changed(context, time_unit="seconds"))
    times = tables.read_table(context.table("records/reviews"), schema.REVIEWS, columns=["timestamp"])["timestamp"]
    assert times[0].as_py() == 1393545600


def test_lines_over_the_limit_name_the_length_that_suffices(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2018(reviewText="x" * 900)))
    longest = max(map(len, lines(reviews_2018(reviewText="x" * 900)).splitlines()))
    assert f"set records.max_line_bytes: {longest}" in refused(context, max_line_bytes=300)
    assert records.run(records.Params(max_line_bytes=longest), context) == NUM_LINES


def test_empty_and_constant_columns_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = [item | {"imageURL": [], "title": "Lamp"} for item in items_2018() * 4]
    items = [item | {"asin": f"B{number}"} for number, item in enumerate(items)]
    context = put(tmp_path, lines(reviews_2018(reviewText="")), lines(items))
    records.run(records.Params(), context)
    warnings = tables.read_manifest(context.table("records/items"))["notes"]["warnings"]
    assert warnings == [
        "m.json: title holds one value in 100% of 28 sampled rows: 'Lamp'",
        "m.json: image_url empty in all 28 rows",
        "r.json: text empty in all 60 rows",
    ]
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert {f"records: {text}" for text in warnings} <= set(logged)


def test_metadata_without_titles_and_categories_is_refused(tmp_path: Path) -> None:
    context = put(tmp_path, lines(reviews_2018()), lines([{"asin": f"B{n}", "name": "x"} for n in range(7)]))
    assert "m.json without title, categories, image_url in any of 7 rows" in refused(context)
    assert records.run(records.Params(), changed(context, metadata=[])) == NUM_LINES


def test_leniency_is_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    context = put(tmp_path, gzip.compress(lines(reviews_2018(overall="4.0", asin=1713353))))
    records.run(records.Params(readers_per_file=2, lines_per_block=25), context)
    account = tables.read_manifest(context.table("records/reviews"))["notes"]["files"]["r.json"]
    assert (account["taken:rating_as_text"], account["taken:numeric_key"]) == (NUM_LINES, NUM_LINES)
    assert (
        "records: r.json: 60 numeric keys taken as text (leading zeros may be missing); 60 ratings given as text"
        in [record.getMessage() for record in caplog.records]
    )
