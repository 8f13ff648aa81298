"""Values whose meaning is plain are taken and counted; all others are rejected with the value that offends."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.parsing import amazon, lenient_values, line_blocks
from pipelines.parsing.lenient_values import Reading
from tests.pipelines.review_2014 import GOOD, dumped

GOOD_2023 = {"user_id": "U1", "parent_asin": "B1", "rating": 4.0, "timestamp": 1588687728923, "text": "Fine"}


def read(record: dict[str, Any] | bytes, form: str = "amazon2014", reading: Reading | None = None) -> amazon.Parsed:
    line = record if isinstance(record, bytes) else dumped(record)
    return amazon.read_reviews(line_blocks.Block(0, 1, [line]), "r", form, reading)


@pytest.mark.parametrize(
    ("changes", "column", "value", "taken"),
    [
        ({"overall": "4.0"}, "rating", 4.0, "rating_as_text"),
        ({"overall": " 5 "}, "rating", 5.0, "rating_as_text"),
        ({"reviewerID": 17}, "user_key", "17", "numeric_key"),
        ({"asin": 1713353.0}, "item_key", "1713353", "numeric_key"),
        ({"unixReviewTime": "1393545600"}, "timestamp", 1393545600, "time_as_text"),
        ({"unixReviewTime": 1393545600123}, "timestamp", 1393545600, "time_in_milliseconds"),
        ({"unixReviewTime": "2014-02-28T00:00:10Z"}, "timestamp", 1393545610, "time_from_date"),
        ({"unixReviewTime": "2014-02-28 00:00:10"}, "timestamp", 1393545610, "time_from_date"),
        ({"unixReviewTime": None}, "timestamp", 1393545600, "time_from_review_time"),
        ({"unixReviewTime": None, "reviewTime": "2 28, 2014"}, "timestamp", 1393545600, "time_from_review_time"),
        ({"overall": "4", "verified": "True"}, "verified", True, "flag_as_text"),
    ],
)
def test_a_plain_value_is_taken_and_counted(changes: dict[str, Any], column: str, value: object, taken: str) -> None:
    parsed = read(GOOD | changes)
    assert parsed.rows[column].to_pylist() == [value]
    assert parsed.taken[taken] == 1


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"overall": "five stars"}, "overall: 'five stars'"),
        ({"overall": 9.0}, "overall: 9.0"),
        ({"reviewerID": ["U1"]}, "reviewerID: a list of 1 values"),
        ({"asin": {"a": 1}}, "asin: an object of 1 values"),
        ({"asin": "  "}, "asin: '  '"),
        ({"unixReviewTime": "soon"}, "unixReviewTime: 'soon'"),
        ({"unixReviewTime": None, "reviewTime": "13 40, 2014"}, "reviewTime: '13 40, 2014'"),
    ],
)
def test_a_reject_shows_the_value_that_offends(changes: dict[str, Any], shown: str) -> None:
    [reject] = read(GOOD | changes).rejects.to_pylist()
    assert reject["excerpt"] == shown


def test_a_missing_field_shows_the_fields_of_the_line() -> None:
    [reject] = read(GOOD_2023).rejects.to_pylist()
    assert (reject["reason"], reject["excerpt"]) == (
        "missing_user", "no reviewerID; the line has user_id, parent_asin, rating, timestamp, text",
    )  # fmt: skip


def test_seconds_of_2023_are_told_from_milliseconds() -> None:
    parsed = read(GOOD_2023 | {"timestamp": 1588687728}, "amazon2023")
    assert (parsed.rows["timestamp"].to_pylist(), parsed.taken) == ([1588687728], {"time_in_seconds": 1})
    told = read(GOOD_2023 | {"timestamp": 1588687728}, "amazon2023", Reading(time_unit="milliseconds"))
    assert (told.rows["timestamp"].to_pylist(), told.taken) == ([1588687], {})
    assert read(GOOD, reading=Reading(time_unit="milliseconds")).rows["timestamp"].to_pylist() == [1393545]


def test_ratings_lie_within_the_range_of_the_dataset() -> None:
    half, range_ = GOOD | {"overall": 0.5}, (0.5, 10.0)
    assert read(half).rejects["reason"].to_pylist() == ["bad_rating"]
    assert read(half, reading=Reading(range_)).rows["rating"].to_pylist() == [0.5]
    assert read(GOOD | {"overall": "10"}, reading=Reading(range_)).rows["rating"].to_pylist() == [10.0]
    assert read(GOOD | {"overall": 10.5}, reading=Reading(range_)).rejects["excerpt"].to_pylist() == ["overall: 10.5"]


def test_a_byte_order_mark_at_the_start_of_a_file_is_skipped() -> None:
    parsed = amazon.read_reviews(
        line_blocks.Block(0, 1, [b"\xef\xbb\xbf" + dumped(GOOD), dumped(GOOD)]), "r", "amazon2014"
    )
    assert (parsed.kept_lines, parsed.taken) == (2, {"byte_order_mark": 1})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{'asin': '\\UFFFFFFFF', 'title': 'x'}", "unreadable"),
        (b"{'asin': 'B1', 'title': '\\N{no such letter}'}", "not_parsable"),
        (b'{"asin": ' + b"9" * 4301 + b"}", "not_parsable"),
        (b'{"asin": "B1", "imUrl": "https://a/\\ud83d.jpg"}', None),
        (b'{"asin": "B1", "price": 1e300, "title": "\\ud83d"}', None),
        (b'{"asin": "B1", "price": "' + b"9" * 400 + b'"}', None),
    ],
)
def test_no_line_of_metadata_ends_in_an_exception(line: bytes, reason: str | None) -> None:
    parsed = amazon.read_items(line_blocks.Block(0, 1, [line]), "m", amazon.ITEM_READERS["amazon2014"])
    assert parsed.rejects["reason"].to_pylist() == ([reason] if reason else [])
    assert parsed.rows["price"].to_pylist() == ([] if reason else [None])


def test_votes_of_thousands_of_digits_are_no_count() -> None:
    assert read(GOOD | {"helpful": None, "vote": "9" * 4301}).rows["helpful_votes"].to_pylist() == [None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
    | st.sampled_from(["4.0", "1,234", "05 13, 2014", "2014-05-13", "NaN", "", " 5", "\ud83d", 1400000000, 10**12]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = [
    "reviewerID", "asin", "overall", "unixReviewTime", "reviewTime", "reviewerName", "summary", "reviewText", "helpful",
    "vote", "verified", "style", "user_id", "parent_asin", "rating", "timestamp", "title", "text", "helpful_vote",
    "verified_purchase", "brand", "store", "price", "category", "categories", "main_category", "description", "imUrl",
    "imageURL", "imageURLHighRes", "images",
]  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=12)


@given(st.lists(OBJECTS, min_size=1, max_size=5), st.sampled_from(sorted(amazon.ITEM_READERS)), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_object_is_kept_or_rejected(objects: list[dict[str, Any]], form: str, literal: bool) -> None:
    lines = [(repr(one) if literal else json.dumps(one)).encode("utf-8", "surrogatepass") for one in objects]
    for reader, how in ((amazon.read_items, amazon.ITEM_READERS[form]), (amazon.read_reviews, form)):
        if how == "p5":
            continue
        parsed = reader(line_blocks.Block(0, 1, lines), "x", how)  # type: ignore[operator]
        assert parsed.kept_lines + parsed.rejects.num_rows == len(lines)
        numbers = pa.concat_arrays([parsed.rows["line"].combine_chunks(), parsed.rejects["line"].combine_chunks()])
        assert sorted(numbers.to_pylist()) == list(range(1, len(lines) + 1))
        assert set(parsed.taken) <= set(lenient_values.TAKEN)
        assert "unreadable" not in parsed.rejects["reason"].to_pylist()


def test_an_unexpected_error_of_one_line_rejects_that_line() -> None:
    def faulty(record: Any, reading: Reading) -> tuple[Any, ...]:
        if record["asin"] == "B2":
            raise ZeroDivisionError("no stars")
        return amazon.ITEM_READERS["amazon2014"](record, reading)  # type: ignore[return-value]

    lines = [b'{"asin": "B1"}', b'{"asin": "B2"}', b'{"asin": "B3"}']
    parsed = amazon.read_items(line_blocks.Block(0, 1, lines), "m", faulty)
    assert parsed.rows["item_key"].to_pylist() == ["B1", "B3"]
    assert parsed.rejects.select(["line", "reason", "excerpt"]).to_pylist() == [
        {"line": 2, "reason": "unreadable", "excerpt": "ZeroDivisionError: no stars"}
    ]
