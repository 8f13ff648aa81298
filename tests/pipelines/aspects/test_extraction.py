"""Aspect mentions: literal sentences to feature words and opinions."""

import pytest

from pipelines.aspects import extraction


def found(sentence: str, rating: float = 5.0, title: str = "") -> list[tuple[str, str, bool]]:
    """(feature, opinion, praised) of a sentence."""
    words = extraction.tag(sentence)
    hits = extraction.mentions(sentence, words, rating, extraction.title_stems(title))
    return [(mention.feature, mention.opinion, mention.polarity > 0) for mention in hits]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The sound of it is really great.", [("sound", "great", True)]),
        ("It has a sturdy base.", [("base", "sturdy", True)]),
        ("Great, clear sound.", [("sound", "clear", True)]),
        ("I love the finish on it", [("finish", "love", True)]),
        ("I am happy with the price", [("price", "happy", True)]),
        ("The zipper broke after a day", [("zipper", "broke", False)]),
        ("The buckle works well", [("buckle", "well", True)]),
        ("I bought the cable last week", []),
        ("It sounds like a real amplifier", []),
        ("My guitar sounds great", []),
        ("It was a great time for everyone", []),
        ("They sound great", []),
    ],
)
def test_patterns_tie_a_noun_to_its_opinion(sentence: str, expected: list[tuple[str, str, bool]]) -> None:
    assert found(sentence) == expected


@pytest.mark.parametrize(
    "sentence",
    ["The sound is not good", "The sound isn't very good", "It never had a good sound", "I don't like the sound"],
)
def test_negation_turns_the_polarity(sentence: str) -> None:
    assert [(feature, praised) for feature, _, praised in found(sentence, rating=1.0)] == [("sound", False)]


def test_evidence_falls_for_disagreement_questions_and_titles() -> None:
    def score(sentence: str, rating: float = 5.0, title: str = "") -> float:
        words = extraction.tag(sentence)
        (mention,) = extraction.mentions(sentence, words, rating, extraction.title_stems(title))
        return mention.score

    base = score("The strap of it is great")
    assert base == extraction.PREDICATE + 1.0 + 0.5 + 0.5
    assert score("The strap of it is great", rating=1.0) == extraction.PREDICATE - 1.5 - 0.5 + 0.5
    assert score("The strap of it is great", rating=3.0) == extraction.PREDICATE + 0.5
    assert score("The strap of it is great", title="Blue Straps") == base - 1.0
    assert score("The strap of it is great ?") == base - 1.0


def test_text_without_words_has_no_mentions() -> None:
    assert extraction.tag("") == []
    assert found("!!! 12.5 :)") == []
