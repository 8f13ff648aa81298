from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.parsing import amazon, amazon_rows, cleaning, line_blocks
from pipelines.parsing.lenient_values import Fault, Reading
from tests.pipelines.review_2014 import GOOD, dumped


def row(row_of: amazon_rows.RowOf, record: Mapping[str, Any]) -> amazon_rows.Row:
    made = row_of(record, Reading())
    assert isinstance(made, tuple)
    return made


def faulty(**changes: Any) -> bytes:
    return dumped({k: v for k, v in (GOOD | changes).items() if v != "absent"})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff\xfe" + dumped(GOOD), "not_utf8"),
        (dumped(GOOD)[:50], "not_parsable"),
        (b"", "not_parsable"),
        (b"{'asin': open('x')}", "not_parsable"),
        (b"[" * 100_000, "not_parsable"),
        (b"[1, 2]", "not_an_object"),
        (b"null", "not_an_object"),
        (faulty(reviewerID="absent"), "missing_user"),
        (faulty(reviewerID=" \n"), "missing_user"),
        (faulty(reviewerID=True), "bad_key"),
        (faulty(reviewerID=["U1"]), "bad_key"),
        (faulty(asin=1.5), "bad_key"),
        (faulty(asin="absent"), "missing_item"),
        (faulty(overall="absent"), "missing_rating"),
        (faulty(overall=None), "missing_rating"),
        (faulty(overall="five"), "bad_rating"),
        (faulty(overall=True), "bad_rating"),
        (faulty(overall=0), "bad_rating"),
        (faulty(overall=9.0), "bad_rating"),
        (dumped(GOOD).replace(b"4.0", b"NaN"), "bad_rating"),
        (dumped(GOOD).replace(b"4.0", b"1" + b"0" * 400), "bad_rating"),
        (faulty(overall="NaN"), "bad_rating"),
        (faulty(overall="Infinity"), "bad_rating"),
        (faulty(overall="5.5"), "bad_rating"),
        (faulty(overall=" "), "missing_rating"),
        (faulty(unixReviewTime="absent", reviewTime="absent"), "missing_time"),
        (faulty(unixReviewTime="absent", reviewTime="02 30, 2014"), "bad_time"),
        (faulty(unixReviewTime="yesterday"), "bad_time"),
        (faulty(unixReviewTime=-1), "bad_time"),
        (faulty(unixReviewTime=2**33), "bad_time"),
        (faulty(unixReviewTime="1e99"), "bad_time"),
        (repr(GOOD).encode().replace(b"Good", b"\\UFFFFFFFF"), "unreadable"),
        (faulty(unixReviewTime=1.5), "bad_time"),
    ],
)
def test_an_invalid_review_is_rejected_with_its_reason(line: bytes, reason: str) -> None:
    parsed = amazon.read_reviews(line_blocks.Block(0, 7, [line]), "r.json", "amazon2014")
    assert parsed.rows.num_rows == 0
    [reject] = parsed.rejects.to_pylist()
    assert (reject["source"], reject["line"], reject["reason"]) == ("r.json", 7, reason)
    assert len(reject["excerpt"]) <= 200
    assert reject["excerpt"].isprintable()


def test_a_review_of_2014_keeps_what_the_line_says() -> None:
    parsed = amazon.read_reviews(line_blocks.Block(0, 1, [dumped(GOOD)]), "r.json", "amazon2014")
    assert parsed.rows.to_pylist() == [{
        "user_key": "U1", "item_key": "B1", "rating": 4.0, "timestamp": 1393545600, "user_name": "Kelo Tav",
        "headline": "Good", "text": "Salt & pepper.", "helpful_votes": 2,
        "verified": None, "variant": None, "feature": None, "explanation": None,
        "source": "r.json", "line": 1, "position": 0,
    }]  # fmt: skip


def test_python_literals_and_lone_surrogates_are_read() -> None:
    lines = [repr(GOOD).encode(), dumped(GOOD).replace(b"Kelo Tav", b"Kelo\\ud83d Tav")]
    parsed = amazon.read_reviews(line_blocks.Block(0, 1, lines), "r.json", "amazon2014")
    assert parsed.rows.column("user_name").to_pylist() == ["Kelo Tav", "Kelo Tav"]


def test_2018_reads_votes_and_cleans_metadata() -> None:
    review = row(amazon_rows.review_2014, {k: v for k, v in GOOD.items() if k != "helpful"} | {"vote": "1,234"})
    assert review[-3:] == (1234, None, None)
    item = row(amazon_rows.item_2018, {
        "asin": "B1", "title": "", "brand": "Tav", "price": "$1,299.00", "category": ["Gifts", "Gifts", "Cards"],
        "description": ["One.", "", "Two &amp; three."], "imageURL": ["https://a/small.jpg"], "imageURLHighRes": [],
    })  # fmt: skip
    expected = ("B1", None, "Tav", 1299.0, ["Gifts", "Cards"], "One. Two & three.", "https://a/small.jpg")
    assert item == expected


def test_2018_titles_lose_markup_and_script_fragments() -> None:
    def title(value: object) -> object:
        return row(amazon_rows.item_2018, {"asin": "B1", "title": value})[1]

    assert title('<span id="productTitle">Lid &amp; Pan<br/>Set</span>') == "Lid & Pan Set"
    assert title("var aPageStart = (new Date()).getTime(); var x") is None
    assert title("5 < 6 and <3") == "5 < 6 and <3"
    item = {"asin": "B1", "category": ["Toys", "</span></span></span>"], "price": ".a-box{x:1}"}
    assert row(amazon_rows.item_2018, item) == ("B1", None, None, None, ["Toys"], None, None)


def test_2023_photos_may_be_lists_or_by_size_or_missing() -> None:
    by_size = {"thumb": ["https://a/t1", "https://a/t2"], "variant": ["PT01", "MAIN"], "large": [None, "https://a/2"]}
    assert row(amazon_rows.item_2023, {"parent_asin": "P1", "images": by_size})[-1] == "https://a/2"
    assert row(amazon_rows.item_2023, {"parent_asin": "P1", "images": None, "price": "from 3.99"}) == (
        "P1", None, None, None, [], None, None,
    )  # fmt: skip
    fault = amazon_rows.item_2023({"asin": "B1"}, Reading())
    assert fault == Fault("missing_item", "no parent_asin; the line has asin")


@given(st.lists(st.binary(max_size=60) | st.sampled_from([dumped(GOOD), repr(GOOD).encode()]), max_size=12))
@settings(max_examples=150, deadline=None)
def test_lines_in_are_lines_kept_and_lines_rejected(lines: list[bytes]) -> None:
    for reader, how in ((amazon.read_reviews, "amazon2014"), (amazon.read_items, amazon_rows.item_2018)):
        read: Callable[..., amazon.Parsed] = reader
        parsed = read(line_blocks.Block(0, 1, lines), "x", how)
        assert parsed.kept_lines + parsed.rejects.num_rows == len(lines)
        numbers = pa.concat_arrays([parsed.rows["line"].combine_chunks(), parsed.rejects["line"].combine_chunks()])
        assert sorted(numbers.to_pylist()) == list(range(1, len(lines) + 1))


@given(st.text())
@settings(deadline=None)
def test_cleaned_texts_have_single_spaces_and_no_controls(value: str) -> None:
    cleaned = cleaning.text(value)
    if cleaned is not None:
        assert cleaned == " ".join(cleaned.split())
        assert not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in cleaned)
        cleaned.encode()


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("12&#34; &amp; more", '12" & more'), ("e\u0301", "\u00e9"), ("a\x00b\t c\n", "ab c"), (" \u00a0 ", None),
        ("a<br />b <b>c</b>d", "a b cd"), ("<script>x</script>y", "y"), ("&lt;b&gt;", None),
        ("<notatag> <3", "<notatag> <3"),
        ("<!-- x", None), ("&amp;#34;", "\""), ("\ufeffx", "x"), (17, None), ("", None),
    ],
)  # fmt: skip
def test_texts_are_cleaned_by_the_documented_rules(value: object, cleaned: str | None) -> None:
    assert cleaning.text(value) == cleaned


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ("$1,299.00", 1299.0), (7.09, 7.09), ("25", 25.0), ("$5.00 - $9.00", None), (".a-box-inner{", None),
        (None, None), (-1.0, None), (float("nan"), None), (float("inf"), None), (True, None), ("", None),
    ],
)  # fmt: skip
def test_prices_are_dollars_or_null(value: object, price: float | None) -> None:
    assert cleaning.price(value) == price
