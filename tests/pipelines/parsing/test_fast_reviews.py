"""The fast path and the full parser give the same rows and leave the same lines."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.parsing import amazon, cleaning, columnar_cleaning, fast_reviews, line_blocks
from pipelines.parsing.lenient_values import Fault, Reading
from tests.pipelines.review_2014 import GOOD, dumped

GOOD_2018 = {k: v for k, v in GOOD.items() if k != "helpful"} | {
    "vote": "1,204", "verified": True, "style": {"Size:": " L &amp; XL", "Color:": " Red"}, "image": ["https://a/1.jpg"],
}  # fmt: skip
GOOD_2023 = {
    "rating": 5.0, "title": "Fine", "text": "It  works.<br />Well", "images": [], "asin": "V1", "parent_asin": "P1",
    "user_id": "U1", "timestamp": 1588687728923, "helpful_vote": 3, "verified_purchase": True,
}  # fmt: skip
GOODS = {"amazon2014": GOOD, "amazon2018": GOOD_2018, "amazon2023": GOOD_2023}

PIECES = [
    "a", "B1", " ", "  ", "\n", "\t", "&amp;", "&#34;", "&", "<br />", "<b>", "</b>", "<3", "\x00", "\x7f", "\u00e9",
    "e\u0301", "\u200b", "\ufeff", "\u00a0", "\ud83d", "\U0001f600", '"', "\\", "/", "../",
    "<script>x</script>", "<!--",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
NUMBERS = (
    st.sampled_from(
        [0, 1, 4.5, 5, 6, -1, 2**31, 2**33, 10**11, 2**63, 2**64, 10**30, 1e300, 1.5, 1393545600, 1393545600000.0]
    )
    | st.integers(-10, 2**44)
    | st.floats()
)
ODD = TEXTS | NUMBERS | st.none() | st.booleans() | st.lists(NUMBERS | TEXTS, max_size=2)
ODD |= st.dictionaries(TEXTS, TEXTS | NUMBERS | st.none(), max_size=2)


@st.composite
def lines(draw: st.DrawFn, form: str) -> bytes:
    """A line of the format with up to three fields changed, added, taken out or repeated; sometimes a broken one."""
    record: dict[str, Any] = dict(GOODS[form])
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*record, "extra"]))
        value = draw(TEXTS if isinstance(record.get(name), str) and draw(st.booleans()) else ODD | st.just("absent"))
        record.pop(name, None)
        if value != "absent":
            record[name] = value
    raw = json.dumps(record, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 9)):
        case 0:
            place = draw(st.integers(0, len(raw)))
            raw = raw[:place] + draw(st.binary(max_size=3)).replace(b"\n", b"") + raw[place + draw(st.integers(0, 2)) :]
        case 1:
            raw = raw[:-1] + b', "' + draw(st.sampled_from(list(GOODS[form]))).encode() + b'": "twice"}'
        case 2:
            raw = repr(record).encode("utf-8", "surrogatepass")
    return raw


@pytest.mark.parametrize("form", GOODS)
def test_the_quick_way_agrees_with_the_careful_one(form: str) -> None:
    row_of = amazon.REVIEW_READERS[form][0]
    ways = ({}, {"rating_range": (0.0, 10.0)}, {"time_unit": "seconds"}, {"time_unit": "milliseconds"})

    @given(st.lists(lines(form), min_size=1, max_size=8), st.sampled_from(ways))
    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def agree(block: list[bytes], way: dict[str, Any]) -> None:
        reading = Reading(**way)
        expected_rows, expected_rejects = [], []
        for number, line in enumerate(block, 1):
            record = amazon.parse_line(line)
            row = Fault(record, "") if isinstance(record, str) else row_of(record, reading)
            if isinstance(row, Fault):
                expected_rejects.append((number, row.reason))
            else:
                expected_rows.append(dict(zip(amazon.REVIEW_FIELDS, row, strict=True)) | {"line": number})
        parsed = amazon.read_reviews(line_blocks.Block(0, 1, block), "x", form, Reading(**way))
        names = (*amazon.REVIEW_FIELDS, "line")
        found = [{name: row[name] for name in names} for row in parsed.rows.to_pylist()]
        for row in (*found, *expected_rows):
            row["rating"] = pa.scalar(row["rating"], pa.float32()).as_py()
        assert found == expected_rows
        assert [(r["line"], r["reason"]) for r in parsed.rejects.to_pylist()] == expected_rejects

    agree()


@pytest.mark.parametrize(("form", "quick"), [(form, amazon.REVIEW_READERS[form][1]) for form in GOODS])
def test_a_good_line_goes_the_quick_way(form: str, quick: fast_reviews.Quick) -> None:
    columns, kept, left = fast_reviews.read([dumped(GOODS[form]), b"{}"], quick, Reading())
    assert (kept.tolist(), left.tolist()) == ([0], [1])
    assert len(columns["text"]) == 1


@given(st.lists(st.none() | TEXTS.map(lambda text: text.encode("utf-8", "ignore").decode()), max_size=9))
@settings(max_examples=200, deadline=None)
def test_a_column_is_cleaned_as_its_texts_are(values: list[str | None]) -> None:
    column = pa.array(values, pa.string())
    assert columnar_cleaning.texts(column).to_pylist() == [cleaning.text(value) for value in values]
    assert columnar_cleaning.keys(column).to_pylist() == [cleaning.key(value) for value in values]


def test_2018_and_2023_have_variants_and_verification() -> None:
    for form, variant, votes in (("amazon2018", "Size: L & XL; Color: Red", 1204), ("amazon2023", "V1", 3)):
        [row] = amazon.read_reviews(line_blocks.Block(0, 1, [dumped(GOODS[form])]), "x", form).rows.to_pylist()
        assert (row["verified"], row["variant"], row["helpful_votes"]) == (True, variant, votes)
