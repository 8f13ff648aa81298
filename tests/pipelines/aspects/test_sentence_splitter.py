"""Sentences: literal reviews to sentences."""

import pytest

from pipelines.aspects.sentence_splitter import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sounds great. The strap broke!  Why?", ["Sounds great.", "The strap broke!", "Why?"]),
        ("it works great.The strap broke", ["it works great.", "The strap broke"]),
        ("It has clips, e.g. two of steel. Good", ["It has clips, e.g. two of steel.", "Good"]),
        ("Good sound... bad cable", ["Good sound", "bad cable"]),
        ("Pros:-Sturdy stand.-Light", ["Pros:", "Sturdy stand.", "Light"]),
        ("two\nlines", ["two", "lines"]),
        ("It is 2.5 inches wide", ["It is 2.5 inches wide"]),
        ("says &#34;loud&#34; on it", ['says "loud" on it']),
        ("   ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text, 30) == expected


def test_a_long_sentence_is_cut_into_clauses() -> None:
    text = "the sound of this one is great, but the stand that came with it is weak and small"
    assert sentences(text, 12) == [
        "the sound of this one is great",
        "but the stand that came with it is weak and small",
    ]
    assert sentences(text, 30) == [text]
