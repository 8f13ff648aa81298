"""Extracts aspect mentions from sentences: nouns with an opinion, scored by evidence.

Reads a sentence of a review. Returns `Mention`s (feature word, sentence, opinion word, polarity, evidence).
Trade-off: part-of-speech patterns with packaged lexicons (textblob's English tagger and sentiment words,
vaderSentiment) instead of a parser: 0.1 ms per sentence and no model to download, but no syntax tree.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipelines.aspects.lexicon import (
    COPULAS,
    FEELING_ADJECTIVES,
    FEELING_VERBS,
    GENERIC_NOUNS,
    NEGATIONS,
    NOT_OPINIONS,
    NOUN_VERBS,
    OPINIONS,
)

_WORD = re.compile(r"[A-Za-z]+(?:['\u2019-][A-Za-z]+)*|\d+(?:[.,]\d+)*|[.,!?;:()]")
_NOUN = re.compile(r"[a-z]{3,}")
_CONTENT = re.compile(r"[a-z]{3,}(?:-[a-z]+)*")

_LIKERS = frozenset({"i", "we", "you", "they", "really", "also", "don't", "didn't", "do", "did", "would", "will"})
_SUBJECTS = frozenset({"i", "you", "we", "they", "it", "these", "those", "that", "which", "to", "will", "would", "not"})

PREDICATE, FEELING, MODIFIER, VERB = 3.0, 2.5, 2.0, 2.0
"""Evidence of the four patterns: "the sound is great", "love the sound", "great sound", "the strap broke"."""


@dataclass(frozen=True, kw_only=True)
class Mention:
    """An aspect word with an opinion in one sentence; `polarity` is -1 to 1, `score` is the total evidence."""

    feature: str
    sentence: str
    opinion: str
    polarity: float
    score: float


@dataclass(frozen=True, slots=True)
class Word:
    """One token: lower-case text and Penn part-of-speech tag."""

    text: str
    tag: str


def tag(sentence: str) -> list[Word]:
    """The tokens of a sentence with their part-of-speech tags (textblob's English pattern tagger).

    Example:
        >>> [word.tag for word in tag("The sound is great")]
        ['DT', 'NN', 'VBZ', 'JJ']
    """
    tokens = [token.replace("\u2019", "'") for token in _WORD.findall(sentence)]
    if tokens:  # the tagger takes a capitalised first word for a proper noun
        tokens[0] = tokens[0].lower()
    if sentence.isupper():
        tokens = [token.lower() for token in tokens]
    tagged = [Word(token.lower(), part) for token, part in _tagger().find_tags(tokens)]
    return [_corrected(tagged, index) for index in range(len(tagged))]


def _corrected(tagged: Sequence[Word], index: int) -> Word:
    """The word with its tag corrected by its neighbours: the tagger itself ignores context."""
    word, before = tagged[index], tagged[index - 1] if index else None
    after = tagged[index + 1].tag if index + 1 < len(tagged) else ""
    if word.text == "like" and before is not None and before.text in _LIKERS:
        return Word(word.text, "VBP")
    if word.text in FEELING_VERBS and word.text != "like" and (before is None or before.tag.startswith(("PRP", "RB"))):
        return Word(word.text, "VBP")
    if word.tag == "NNS" and word.text in COPULAS and after.startswith(("RB", "JJ")):  # "the buckle works well"
        return Word(word.text, "VBZ")
    if word.tag in {"VB", "VBP"} and before is not None and before.tag in {"DT", "PRP$"}:
        return Word(word.text, "NN")
    if word.text in {"sound", "look", "feel", "work", "fit"} and before is not None and before.text in _SUBJECTS:
        return Word(word.text, "VBP")
    if word.tag == "NNP" and word.text in _adjectives():
        return Word(word.text, "JJ")
    return word


def nouns(words: Sequence[Word]) -> set[str]:
    """The common nouns that are candidates for aspects."""
    return {word.text for word in words if _is_candidate(word)}


def content_words(words: Sequence[Word]) -> list[str]:
    """The distinct nouns and adjectives of at least three letters, without contractions, in alphabetical order.

    Example:
        >>> content_words(tag("The sound is great and the sound is loud"))
        ['great', 'loud', 'sound']
    """
    found = {word.text for word in words if word.tag.startswith(("NN", "JJ"))}
    return sorted(text for text in found if _CONTENT.fullmatch(text))


def mentions(sentence: str, words: Sequence[Word], rating: float, title_words: frozenset[str]) -> Iterator[Mention]:
    """Yields the nouns of a sentence that a pattern links to an opinion word.

    Args:
        sentence: Text of the sentence.
        words: Tokens of the sentence.
        rating: Stars of the review; a polarity of the opposite sign lowers the score.
        title_words: Words of the item's title; a feature among them names the item itself and has a lower score.
    """
    base = _sentence_evidence(sentence, words, rating)
    for index, word in enumerate(words):
        if not _is_candidate(word) or _is_noun(words, index + 1) or _is_owned(words, index):
            continue
        hits = [hit for hit in _patterns(words, index) if hit is not None]
        if not hits:
            continue
        evidence, opinion, polarity = max(hits, key=lambda hit: (hit[0], abs(hit[2]), hit[1]))
        score = evidence + base + _agreement(polarity, rating)
        score -= 1.0 if _stem(word.text) in title_words else 0.0
        yield Mention(
            feature=word.text, sentence=sentence, opinion=opinion, polarity=round(polarity, 3), score=round(score, 3)
        )


def names_item(feature: str, title_words: frozenset[str]) -> bool:
    """Whether the feature word occurs in the item's title."""
    return _stem(feature) in title_words


def title_stems(title: str | None) -> frozenset[str]:
    """The lower-case words of a title, without plural s."""
    return frozenset(_stem(word) for word in re.findall(r"[a-z]+", (title or "").lower()))


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _is_candidate(word: Word) -> bool:
    return word.tag in {"NN", "NNS"} and word.text not in GENERIC_NOUNS and _NOUN.fullmatch(word.text) is not None


def _is_noun(words: Sequence[Word], index: int) -> bool:
    return index < len(words) and words[index].tag.startswith("NN")


def _is_owned(words: Sequence[Word], index: int) -> bool:
    """Whether a possessive ("my", "his", ...) precedes the noun, which then mostly belongs to the writer."""
    for word in reversed(words[max(0, index - 3) : index]):
        if word.text in {"my", "our", "his", "her", "your", "their"}:
            return True
        if not word.tag.startswith(("NN", "JJ", "CD")):
            return False
    return False


def _patterns(words: Sequence[Word], index: int) -> Iterator[tuple[float, str, float] | None]:
    yield _predicate(words, index)
    yield _modifier(words, index)
    yield _feeling(words, index)
    yield _verb(words, index)


def _predicate(words: Sequence[Word], index: int) -> tuple[float, str, float] | None:
    """NOUN ... copula (adverb)* OPINION, as in "the sound of it is really great"."""
    position = index + 1
    while position < min(len(words), index + 5) and words[position].text not in COPULAS:
        if words[position].tag in {",", ".", ":", "CC"} or words[position].text in {"i", "you", "we"}:
            return None
        position += 1
    if position >= min(len(words), index + 5):
        return None
    for place in range(position + 1, min(len(words), position + 6)):
        word = words[place]
        polarity = _polarity(word)
        if polarity is not None and not _is_noun(words, place + 1):
            return PREDICATE, word.text, _negated(words, place, polarity, floor=index)
        if word.tag in {".", ":", "(", ")"} or word.tag.startswith(("NN", "PRP")):
            return None
    return None


def _modifier(words: Sequence[Word], index: int) -> tuple[float, str, float] | None:
    """OPINION (noun, adjective, comma, and)* NOUN, as in "great, clear sound"."""
    for place in range(index - 1, max(-1, index - 5), -1):
        word = words[place]
        polarity = _polarity(word) if word.tag.startswith(("JJ", "VBN", "VBG")) else None
        if polarity is not None:
            return MODIFIER, word.text, _negated(words, place, polarity, floor=0)
        if not word.tag.startswith(("NN", "JJ", "RB")) and word.text not in {",", "and"}:
            return None
    return None


def _feeling(words: Sequence[Word], index: int) -> tuple[float, str, float] | None:
    """A verb or adjective of feeling, then the noun phrase: "love the sound", "happy with the price"."""
    for place in range(index - 1, max(-1, index - 5), -1):
        word = words[place]
        before = words[place - 1] if place else None
        if word.text in FEELING_VERBS and word.tag.startswith("VB"):
            if before is not None and before.text in COPULAS - _LIKERS:  # "sounds like a", "feels like"
                return None
            return FEELING, word.text, _negated(words, place, FEELING_VERBS[word.text], floor=0)
        if word.text in {"with", "by", "in", "about"} and before is not None and before.text in FEELING_ADJECTIVES:
            return FEELING, before.text, _negated(words, place - 1, FEELING_ADJECTIVES[before.text], floor=0)
        if not word.tag.startswith(("DT", "JJ", "NN", "RB", "PRP$")) and word.text not in {"of", ","}:
            return None
    return None


def _verb(words: Sequence[Word], index: int) -> tuple[float, str, float] | None:
    """NOUN followed by an evaluative verb: "the strap broke"."""
    for place in range(index + 1, min(len(words), index + 4)):
        word = words[place]
        if word.text in NOUN_VERBS:
            return VERB, word.text, _negated(words, place, NOUN_VERBS[word.text], floor=index)
        if not word.tag.startswith(("RB", "MD", "VB")):
            return None
    return None


def _negated(words: Sequence[Word], place: int, polarity: float, *, floor: int) -> float:
    near = words[max(floor, place - 4) : place]
    return -polarity if any(word.text in NEGATIONS or word.text.endswith("n't") for word in near) else polarity


def _polarity(word: Word) -> float | None:
    """Polarity of an opinion adjective or adverb, -1 to 1; None for any other word."""
    text = word.text
    if text in NOT_OPINIONS or not word.tag.startswith(("JJ", "RB", "VBN", "VBG", "VBD")):
        return None
    if text in OPINIONS:
        return OPINIONS[text]
    if word.tag in {"VBG", "VBD"}:
        return None
    valence = _vader().lexicon.get(text)
    if valence is not None and abs(valence) >= 0.8:
        return float(valence) / 4.0
    scores = _adjectives().get(text)
    if scores is not None and word.tag.startswith("JJ"):
        polarity = float(scores[None][0])
        return polarity if abs(polarity) >= 0.15 else None
    return None


def _agreement(polarity: float, rating: float) -> float:
    """1 if the polarity has the sign of the rating, -1.5 if it has the opposite; 0 for three stars."""
    if rating == 3 or polarity == 0:
        return 0.0
    return 1.0 if (polarity > 0) == (rating > 3) else -1.5


def _sentence_evidence(sentence: str, words: Sequence[Word], rating: float) -> float:
    compound = _vader().polarity_scores(sentence)["compound"]
    evidence = 0.0
    if rating != 3 and abs(compound) >= 0.05:
        evidence += 0.5 if (compound > 0) == (rating > 3) else -0.5
    count = sum(word.text[0].isalnum() for word in words)
    evidence += 0.5 if 5 <= count <= 20 else 0.0
    texts = {word.text for word in words}
    if "?" in texts or texts & {"if", "would", "could", "should", "wish"}:
        evidence -= 1.0
    return evidence


@lru_cache(maxsize=1)
def _tagger() -> Any:
    import warnings

    from textblob.en import parser

    with warnings.catch_warnings():  # the library does not close its lexicon file
        warnings.simplefilter("ignore", ResourceWarning)
        parser.find_tags(["word"])
    return parser


@lru_cache(maxsize=1)
def _adjectives() -> Any:
    from textblob.en import sentiment

    sentiment.load()
    return dict(sentiment)


@lru_cache(maxsize=1)
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
