"""Removes what scraping left in a text: HTML markup, scripts, character entities and `[[NAME:...]]` placeholders.

Reads one text. Returns it without them, and unchanged if it has no "&", "<" or "[".

A tag has a name of HTML, or any name with a quoted attribute; it may be cut off by the end of the text, by the next tag
or, where a scraped title is expected, by the beginning of the text. `[[ASIN:B0001 some title]]` becomes "some title";
every other placeholder is removed.
Plain text in angle brackets stays ("a < b", "I <3 it", "<grin>", "<b and c>").
The rules are repeated until nothing changes, because texts are often encoded twice; the result has no markup at any
depth. Every pattern is linear in the length of the text: repetitions are possessive and do not cross "<" or "[".
"""

import functools
import html
import re
import unicodedata
from html.entities import html5

_LINES = (
    "address|article|aside|blockquote|body|br|center|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|"
    "hr|html|li|nav|noscript|ol|option|p|pre|section|select|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_LETTERS = "a|b|i|p|q|s|u"
_WITHIN = (
    "abbr|acronym|audio|base|bdi|bdo|big|blink|button|canvas|caption|cite|code|col|colgroup|del|dfn|"
    "em|embed|font|frame|frameset|iframe|img|input|ins|kbd|label|legend|marquee|meta|nobr|object|"
    "optgroup|param|picture|samp|small|span|strike|strong|style|sub|sup|svg|"
    f"textarea|tt|var|video|wbr|script|xml|{_LETTERS}"
)
_LONG = "|".join(name for name in f"{_LINES}|{_WITHIN}".split("|") if name not in _LETTERS.split("|"))
_FLAGS = (
    "allowfullscreen|async|autoplay|checked|compact|controls|defer|disabled|loop|muted|nohref|noshade|nowrap|selected"
)
_ATTRIBUTES = (
    "align", "alt", "border", "class", "color", "content", "controls", "data", "dir", "face", "height", "href", "id",
    "lang", "name", "rel", "role", "size", "src", "style", "target", "title", "type", "value", "width",
)  # fmt: skip
_PREFIXES = "|".join(sorted({name[:end] for name in _ATTRIBUTES for end in range(1, len(name) + 1)}, reverse=True))
_QUOTED = r"""(?:"[^"<>]*+"|'[^'<>]*+')"""
_PAIR = rf"[\w:.-]++\s*+=\s*+{_QUOTED}"

_HIDDEN = re.compile(
    r"(?:<!(?:--)?)?\[if (?!!)[^\[\]<>]*+\](?:--)?>.*?(?:<!\[endif\](?:--)?>|\Z)|"  # for Word or an old browser
    r"<!--.*?(?:-->|\Z)|<(script|style)\b[^<>]*+>.*?(?:</\1\s*+>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_HEADLESS = re.compile(r"\A[^<;{}]*+[;{}][^<]*+</(?:script|style)\s*+>", re.IGNORECASE)
_DECLARATION = re.compile(r"<(?:!doctype\b|!\[|\?xml\b)[^<>]*+(?:>|\Z)", re.IGNORECASE)


def _tag(names: str) -> re.Pattern[str]:
    """Opening and closing tags of the names: whole, or cut off within an attribute or a closing tag."""
    whole = rf"(?:\s[^<>=]*+=[^<>]*+|\s++(?:{_FLAGS})\s*+/?|\s*+/?)>"
    value = r"""(?:"[^"<>]*+(?:"|(?=<)|\Z)|'[^'<>]*+(?:'|(?=<)|\Z)|[^\s<>"']*+)"""
    cut = rf"(?:\s++[\w:.-]++\s*+=\s*+{value})++\s*+(?:/?\Z)?"
    return re.compile(rf"</?(?:{names})(?:{whole}|{cut})", re.IGNORECASE)


_LINE_TAG = _tag(_LINES)
_WORD_TAG = _tag(_WITHIN)
_OTHER_TAG = re.compile(
    rf"<[a-z][\w:-]*+(?:\s++{_PAIR})++[^<>]*+>|</?(?:o|v|w|x|m|g|fb|st1):[\w-]++\s*+/?>", re.IGNORECASE
)
_LAST_TAG = re.compile(rf"<(?:/[a-z]*+\s*+|(?:{_LONG})(?:\s*+/|\s++(?:{_PREFIXES})?+)?+\s*+)\Z", re.IGNORECASE)
_FIRST_TAG = re.compile(
    rf"\A(?:\s*+(?:/?(?:{_LONG})(?:\s*+/)?|/(?:{_LETTERS})|"
    rf"(?:(?:{_LONG}|{_LETTERS})\s++)?(?:[^<>\"'=\s]*+[\"'])?(?:\s*+{_PAIR})++\s*+/?)>)++",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:(?:amp;|AMP;|#0*+38;|#[xX]0*+26;)++|#[0-9]{1,7}+;?|#[xX][0-9a-fA-F]{1,6}+;?|[A-Za-z][A-Za-z0-9]{1,31}+(?:;|(?!=)))"
)
_PLACEHOLDER = re.compile(r"\[\[([A-Z][A-Z0-9_]*+):\s*+([^\s\[\]]*+)((?:[^\[\]]|\[[^\[\]]*+\])*+)\]\]")
_CUT_PLACEHOLDER = re.compile(r"\[\[[A-Z][A-Z0-9_]*+:\s*+[^\s\[\]]*+\]?")
_DROPPED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_SIGNS = str.maketrans("", "", "&<[")
_MOST_ROUNDS = 8


def normalized(value: str) -> str:
    r"""The text in NFC, with single spaces, without control characters and outer spaces.

    Example:
        >>> normalized(" a\x00b\tc  d ")
        'ab c d'
    """
    if value.isascii() and value.isprintable():  # the only white space is spaces: four times as fast
        while "  " in value:
            value = value.replace("  ", " ")
        return value.strip(" ")
    value = " ".join(unicodedata.normalize("NFC", value).split())
    if not value.isprintable():  # letters that control characters separated may compose
        value = " ".join(unicodedata.normalize("NFC", _DROPPED.sub("", value)).split())
    return value


def unmarked(value: str) -> str:
    """The text without markup, entities and placeholders.

    A text that retains one of their signs is normalized; one that nests them more than eight deep loses the signs.

    Example:
        >>> unmarked('<span class="a-size">Lid &amp;amp; pan'), unmarked("see [[ASIN:B01 My Lamp]] <3")
        ('Lid & pan', 'see My Lamp <3')
    """
    for _ in range(_MOST_ROUNDS):
        if not ("&" in value or "<" in value or "[" in value):
            return value
        before, value = value, _once(value)
        if value == before:
            value = normalized(value)  # without control characters, other signs may meet
            if value == before:
                return value
    return value.translate(_SIGNS)


def without_first_tag(value: str) -> str:
    """The text without a tag whose beginning was cut off.

    Example:
        >>> without_first_tag('size-large" id="title">Lamp'), without_first_tag("12 > 10")
        ('Lamp', '12 > 10')
    """
    return _FIRST_TAG.sub("", value) if ">" in value else value


def _once(value: str) -> str:
    if "<" in value:
        value = _HEADLESS.sub(" ", _HIDDEN.sub(" ", value))
        value = _OTHER_TAG.sub("", _WORD_TAG.sub("", _LINE_TAG.sub(" ", _DECLARATION.sub(" ", value))))
        value = _LAST_TAG.sub("", value)
    if "&" in value:
        value = _ENTITY.sub(_decoded, value)
    if "[[" in value:
        value = _CUT_PLACEHOLDER.sub(" ", _PLACEHOLDER.sub(_shown, value))
    return value


def _decoded(entity: re.Match[str]) -> str:
    return _character(entity[0])


@functools.lru_cache(maxsize=4096)
def _character(entity: str) -> str:
    """The character of an entity; several nested ampersands are one, and an unknown name stays."""
    if entity.count(";") > 1:
        return "&"
    return html.unescape(entity) if entity[1] == "#" else html5.get(entity[1:], entity)


def _shown(placeholder: re.Match[str]) -> str:
    return f" {placeholder[3]} " if placeholder[1] == "ASIN" else " "
