"""Splits reviews into sentences with regular expressions made for informal text.

Reads the text of one review. Returns its sentences; long ones are split into clauses.
Trade-off: English only, with a short list of abbreviations, in a twentieth of a library's time
(docs/decisions/0006-sentence-splitting.md).
"""

import html
import re

_SENTENCE_END = re.compile(
    r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]?[A-Za-z0-9])"""  # the ordinary end
    r"""|(?<=[a-z)][.!?])(?=[A-Z][a-z' ])"""  # "works great.The strap"
    r"""|\s*\.{2,}\s*|\n+|\s[-*+=]{1,3}\s|(?<=[.!?:])[-*+]+(?=\w)"""  # dots, lines, bullets
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|mr|mrs|ms|dr|st|approx|inc|no|oz|ft|lbs?)|\b[A-Za-z])\.$", re.IGNORECASE
)
_CLAUSE_END = re.compile(
    r"\s*;\s*|\s*,\s+(?=(?:but|so|and|yet|although|though|while|because|plus|however)\b)|\s+(?=but\b)"
)


def sentences(text: str, max_words: int) -> list[str]:
    """The sentences of a review; those longer than `max_words` are split into clauses.

    Example:
        >>> sentences("Sounds great.The strap, e.g. mine, broke! Bad", 30)
        ['Sounds great.', 'The strap, e.g. mine, broke!', 'Bad']
    """
    text = html.unescape(text)
    pieces: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        piece = text[start : match.start()]
        if _ABBREVIATION.search(piece) and "\n" not in match.group():
            continue
        pieces.append(piece)
        start = match.end()
    pieces.append(text[start:])
    clauses = []
    for piece in (" ".join(piece.split()) for piece in pieces):
        long = piece.count(" ") >= max_words
        clauses += [part.strip(" ,") for part in (_CLAUSE_END.split(piece) if long else [piece])]
    return [piece for piece in clauses if piece]
