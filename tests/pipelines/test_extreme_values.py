"""Values that break parsers, in every format: the stage ends, and each is a reject, a null or plain text."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.runtime.stage import Context
from features.store import tables
from pipelines import records
from pipelines.parsing import parse_block, readers
from pipelines.parsing.line_blocks import Block

DIGITS, VOTES = "9" * 5000, "9" * 4301
REVIEW_2014 = {
    "reviewerID": "U1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_400_000_000, "reviewText": "fine",
    "reviewerName": "Jo", "helpful": [1, 2],
}  # fmt: skip
REVIEW_2023 = {
    "user_id": "U1", "parent_asin": "B1", "asin": "B1", "rating": 5.0, "timestamp": 1_400_000_000_000, "text": "fine",
    "helpful_vote": 3,
}  # fmt: skip
ITEM_2014 = {
    "asin": "B1", "title": "Lamp", "price": 9.5, "imUrl": "http://a/1.jpg", "brand": "T", "categories": [["Home"]],
    "salesRank": {"Home": 1},
}  # fmt: skip
ITEM_2018 = {
    "asin": "B1", "title": "Lamp", "price": "$9.50", "imageURLHighRes": ["http://a/1.jpg"], "brand": "T",
    "category": ["Home"], "rank": ["1 in Home"], "description": ["Bright."],
}  # fmt: skip
ITEM_2023 = {
    "parent_asin": "B1", "title": "Lamp", "price": "9.5", "images": [{"variant": "MAIN", "large": "http://a/1.jpg"}],
    "store": "T", "categories": ["Home"], "rating_number": 7, "average_rating": 4.5,
}  # fmt: skip
EXTREMES = [
    "1e60", "-1e60", "1e999", VOTES, f"-{VOTES}", f'"{VOTES}"', f'"${DIGITS}"', '"1e60"', '"1e999"', "NaN",
    r'"\ud800"', r'"a\udfff.jpg"', f'"a &#{DIGITS}; b"', f'"&#x{DIGITS};"', '"&#xD800; &#1114112;"', r'"\u0000"',
    '{"\\ud800": "\\udc00"}', "[" * 5000 + "]" * 5000, "null", "true", r'["\ud800"]', f"[{VOTES}]",
    r'[{"large": "http://a/\ud800.jpg"}]',
]  # fmt: skip
LITERALS = [r"'\UFFFFFFFF'", r"u'\ud800'", r"'\x'", r"'\N{NO SUCH NAME}'", r"'\777'", VOTES, "1e999", "1j", "(" * 5000]


def put(context: Context, files: dict[str, bytes]) -> None:
    context.raw.mkdir(parents=True)
    for name, data in files.items():
        (context.raw / name).write_bytes(data)


def ended(root: Path, form: str, files: dict[str, bytes], num_metadata: int = 0, **entry: Any) -> tuple[int, int, int]:
    """Runs `records`; returns the numbers of reviews, items and rejects that can be read back."""
    names = list(files)
    metadata, reviews = names[len(names) - num_metadata :], names[: len(names) - num_metadata]
    shared = {"datasets": {"format": form, "reviews": reviews, "metadata": metadata} | entry, "beam": {}}
    context = Context(dataset="tiny", root=root, seed=1, shared=shared)
    put(context, files)
    records.run(records.Params(max_rejected_share=1.0), context)
    counts = []
    for table in (schema.REVIEWS, schema.ITEMS, schema.REJECTS):
        rows = tables.read_table(context.table(table.name), table).to_pylist()
        counts.append(len(rows))
        for row in rows:
            assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    return counts[0], counts[1], counts[2]


def lines(record: dict[str, Any], key: str) -> tuple[bytes, int]:
    """A good line, then one for each field and extreme value; every `key` differs unless it is itself extreme."""
    texts, number = [json.dumps(record)], 0
    for name in record:
        for extreme in EXTREMES:
            number += 1
            cells = {field: json.dumps(value) for field, value in (record | {key: f"K{number}"}).items()}
            cells[name] = extreme
            texts.append("{" + ", ".join(f'"{field}": {cell}' for field, cell in cells.items()) + "}")
    return "\n".join(texts).encode(), len(texts)


@pytest.mark.parametrize(
    ("form", "review", "user", "item", "item_key"),
    [
        ("amazon2014", REVIEW_2014, "reviewerID", ITEM_2014, "asin"),
        ("amazon2018", REVIEW_2014, "reviewerID", ITEM_2018, "asin"),
        ("amazon2023", REVIEW_2023, "user_id", ITEM_2023, "parent_asin"),
    ],
)
def test_extreme_values_of_any_field(tmp_path, form, review, user, item, item_key):
    reviews, num_reviews = lines(review, user)
    items, num_items = lines(item, item_key)
    kept, kept_items, rejected = ended(tmp_path, form, {"r.json": reviews, "m.json": items}, 1)
    assert kept + kept_items + rejected == num_reviews + num_items
    assert min(kept, kept_items, rejected) > 10


@pytest.mark.parametrize("kind", ["reviews", "items"])
def test_extreme_python_literals(tmp_path, kind):
    record = REVIEW_2014 if kind == "reviews" else ITEM_2014
    good = json.dumps(record).encode()
    bad = [
        b"{" + b", ".join(b"'%s': %s" % (field.encode(), (literal if field == name else repr(value)).encode())
        for field, value in record.items()) + b"}"
        for name in record for literal in LITERALS
    ]  # fmt: skip
    whole = b"\n".join([good, *bad])
    files = {"r.json": whole} if kind == "reviews" else {"r.json": json.dumps(REVIEW_2014).encode(), "m.json": whole}
    kept, items, rejected = ended(tmp_path, "amazon2014", files, len(files) - 1)
    assert rejected > len(bad) // 2
    assert (kept if kind == "reviews" else items) >= 1


CELLS = [
    DIGITS, "1e60", "1e999", "-1e999", "nan", "inf", f"0.{DIGITS}", "\\ud800", "\\UFFFFFFFF", f"&#{DIGITS};", "\x00",
    '"', "\udc80", "\ufeff", "{" * 5000,
]  # fmt: skip


def table(header: str, good: list[str], sep: str) -> bytes:
    rows = [header, sep.join(good)] if header else [sep.join(good)]
    rows += [sep.join([*good[:place], cell, *good[place + 1 :]]) for place in range(len(good)) for cell in CELLS]
    return "\n".join(rows).encode("utf-8", "surrogateescape")


TABLES = {
    "ratings": ("ratings", "user,item,rating,time", ["U1", "B1", "4.0", "1400000000"], ",", "r.csv"),
    "ratings without names": ("ratings", "", ["U1", "B1", "4.0", "1400000000"], ",", "r.csv"),
    "MovieLens": ("ratings", "", ["1", "1", "4", "1400000000"], "::", "ratings.dat"),
    "recbole": (
        "recbole", "user_id:token\titem_id:token\trating:float\ttimestamp:float", ["U1", "B1", "4", "1400000000"], "\t",
        "x.inter",
    ),
    "exported": (
        "amazon2014", "reviewerID,asin,overall,unixReviewTime,reviewText,helpful",
        ["U1", "B1", "4.0", "1400000000", "fine", "[0]"], ",", "r.csv",
    ),
    "sequences": ("sequences", "", ["1", "2", "3", "4"], " ", "s.txt"),
    "openp5": ("openp5", "", ["U1", "B1", "B2", "B3"], " ", "user_sequence.txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(TABLES))
def test_extreme_cells_of_tables_and_sequences(tmp_path, name):
    form, header, good, sep, file = TABLES[name]
    kept, _, rejected = ended(tmp_path, form, {file: table(header, good, sep)})
    assert kept >= 1
    assert rejected >= 1 or form in {"openp5", "sequences"}


@pytest.mark.parametrize("form", ["recbole", "ratings", "openp5"])
def test_extreme_cells_of_item_tables(tmp_path, form):
    reviews = {
        "recbole": b"user_id:token\titem_id:token\ttimestamp:float\nU1\tB1\t1400000000\n",
        "ratings": b"U1,B1,4.0,1400000000\n", "openp5": b"U1 B1 B2\n",
    }[form]  # fmt: skip
    items = {
        "recbole": table("item_id:token\ttitle:token_seq\tprice:float", ["B1", "Lamp", "3.5"], "\t"),
        "ratings": table("movieId,title,genres", ["B1", "Lamp", "Home"], ","),
        "openp5": table("", ["B1", "Lamp"], " "),
    }[form]
    kept, num_items, _ = ended(tmp_path, form, {"r.txt": reviews, "i.item" if form == "recbole" else "i.csv": items}, 1)
    assert kept >= 1
    assert num_items >= 1


@pytest.mark.parametrize("key", [r"U\ud800", r"\udc00", f"&#{DIGITS};", DIGITS, r"\u0000"])
def test_extreme_keys_and_numbers_of_p5(tmp_path, key):
    maps = {"id2user": {"1": "U1", "2": "KEY"}, "id2item": {"1": "B1", "2": "KEY", DIGITS: "B3"}}
    lines = [
        b"1 1 1",
        b"2 1 2",
        b"1 2 1",
        DIGITS.encode() + b" 1 1",
        b"1 " + DIGITS.encode() + b" 1",
        b"1e60 1",
        b"\xff 1",
    ]
    files = {"sequential_data.txt": b"\n".join(lines), "datamaps.json": json.dumps(maps).replace("KEY", key).encode()}
    kept, _, rejected = ended(tmp_path, "p5", files)
    assert kept >= 2
    assert rejected >= 3


@pytest.mark.parametrize("form", ["ratings", "sequences", "amazon2014"])
def test_an_unexpected_error_rejects_its_line_alone(tmp_path, form, monkeypatch):
    good = {
        "ratings": b"U%d,B1,4.0,1400000000", "sequences": b"%d 1 2",
        "amazon2014": b'{"reviewerID": "U%d", "asin": "B1", "overall": 4.0, "unixReviewTime": 1400000000}',
    }[form]  # fmt: skip
    made = readers.reader

    def broken(file: readers.File) -> readers.Reader:
        reader = made(file)

        def parse(block: Block) -> Any:
            if any(b"999" in line for line in block.lines):
                raise AttributeError("no such thing")
            return reader.parse(block)

        return readers.Reader(reader.blocks, parse)

    monkeypatch.setattr(parse_block.readers, "reader", broken)
    numbers = [1, 2, 999, 3, 4, 5, 9990, 6]
    kept, _, rejected = ended(tmp_path, form, {"r.txt": b"\n".join(good % number for number in numbers)})
    assert (kept, rejected) == (12 if form == "sequences" else 6, 2)
    found = tables.read_table(tmp_path / "data/tiny/records/rejects", schema.REJECTS).to_pylist()
    assert [(row["line"], row["reason"], row["excerpt"]) for row in found] == [
        (line, "unreadable", "AttributeError: no such thing") for line in (3, 7)
    ]
