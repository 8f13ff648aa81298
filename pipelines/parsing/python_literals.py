"""Parses lines that are Python literals, without evaluating code.

Reads one line such as {'asin': 'B001', 'price': 7.09, 'title': "Player's Guide"}. Returns the object it denotes.
Trade-off: three parsers, each slower and more general than the one before, and each detects lines that it cannot
parse: swapping quotes by searching for a few characters; a regular expression over all tokens (None, True, False,
prefixes, raw tabs); and `ast.literal_eval` (tuples, byte strings), bounded in length and depth. The first two produce
JSON, which orjson parses and validates.
"""

import ast
import contextlib
import json
import re
import sys
import unicodedata
from collections.abc import Callable

import msgspec
import orjson

# No possessive groups: up to Python 3.11.4 they match wrongly and silently ('it\'s "here"' lost its apostrophe).
# No backtracking: nothing after a run can fail, and the alternatives of a string begin with different letters. A string
# without an end is consumed at once: searching an end from each of its quotes would take quadratic time.
_RUN = r"""(?:[\s\[\]{},:\d.+\-eE]+|'[^'"\\\x00-\x1f]*')+"""
_HARD = r"""'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*\""""
_WORD = r"\b(?:None|True|False)\b"
_OPEN = r"['\"].*"
_TOKEN = re.compile(
    rf"(?P<run>{_RUN})|(?:\bu(?=['\"]))?(?P<hard>{_HARD})|(?P<word>{_WORD})|(?P<open>{_OPEN})", re.DOTALL
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|N\{([^}]*)\}|([0-7]{1,3})|(.))", re.DOTALL
)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "\n": ""} | {
    same: same for same in "\\'\""
}
_WORDS = {"None": "null", "True": "true", "False": "false"}
_BYTES = re.compile(r"\\x[89a-fA-F][0-9a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STRING = re.compile(_HARD, re.DOTALL)
_STRING_OR_OPEN = re.compile(rf"{_HARD}|(?P<open>{_OPEN})", re.DOTALL)
_NOT_JSON_ESCAPE = re.compile(r"""\\[^ntrbf"']""", re.DOTALL)
_quoted = json.JSONEncoder().encode
_MAX_FALLBACK_LENGTH = 1 << 16
_MAX_DEPTH = 20
_REFUSED = re.compile(
    r"[\w)\]}'\"]\s*[\[({]"  # a call or a subscript
    r"|[\d)\]}'\"]\s*[+\-]"  # an operator between two values
    r"|[+\-]\s*[+\-]|[~*/%@&|^<>=!;]|\b(?:lambda|for|if|in|not|is|and|or)\b"
)


def parse(line: str, loads: Callable[[str], object] = orjson.loads) -> object:
    r"""Parses a Python literal.

    Escaped UTF-8 bytes, as written by Python 2, are decoded; surrogate pairs are joined; integers beyond 64 bits become
    floats, as in JSON.

    Example:
        >>> parse("{'title': 'Caf\\xc3\\xa9', 'also': ['B1'], 'rank': None}")
        {'title': 'Café', 'also': ['B1'], 'rank': None}

    Args:
        line: The literal.
        loads: Decoder for lines that were converted to JSON; lines that it rejects go to the slower parsers.

    Raises:
        ValueError: Not a literal, or too long or too deeply nested for the slow path.
    """
    try:
        return loads(_swapped(line))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        pass
    try:
        return orjson.loads(_TOKEN.sub(_as_json, line))
    except ValueError:
        return _slowly(line)


def _swapped(line: str) -> str:
    """`line` with every string in double quotes; everything else is unchanged.

    Only double quotes and backslashes are inspected: up to the next of them, single quotes are paired, or the last one
    opens the string that contains it.

    Raises:
        ValueError: A string is not terminated, or a backslash is outside a string.
    """
    pieces = []
    position = double = slash = 0
    while True:
        double = line.find('"', position) if 0 <= double <= position else double
        slash = line.find("\\", position) if 0 <= slash <= position else slash
        hard = min(double, slash) if double >= 0 and slash >= 0 else max(double, slash)
        if hard < 0:
            pieces.append(line[position:].replace("'", '"'))
            return "".join(pieces)
        begin = line.rfind("'", position, hard) if line.count("'", position, hard) % 2 else hard
        match = _STRING.match(line, begin)
        if match is None:
            raise ValueError("a string without an end")
        pieces.append(line[position:begin].replace("'", '"'))
        pieces.append(_json_string(match[0]))
        position = match.end()


def _json_string(literal: str) -> str:
    """A string literal as JSON; syntax shared by JSON and Python is copied verbatim."""
    body = literal[1:-1]
    if "\\" not in body:
        return literal if literal[0] == '"' else '"' + body.replace('"', '\\"') + '"'
    paired = body.replace("\\\\", "\0")  # now each backslash begins an escape
    if "\0" in body or _NOT_JSON_ESCAPE.search(paired):
        return _quoted(_unescaped(body))
    bare = paired.replace("\\'", "'").replace('\\"', '"')
    return '"' + bare.replace('"', '\\"').replace("\0", "\\\\") + '"'


def _as_json(match: re.Match[str]) -> str:
    if match["run"] is not None:
        return match["run"].replace("'", '"')
    if match["hard"] is not None:
        return _quoted(_unescaped(match["hard"][1:-1]))
    if match["open"] is not None:
        raise ValueError("a string without an end")
    return _WORDS[match["word"]]


def _unescaped(body: str) -> str:
    """The text between the quotes of a string literal."""
    if "\\" not in body:
        return body
    value = _ESCAPE.sub(_letter, body)
    if _BYTES.search(body):
        with contextlib.suppress(UnicodeError):  # on failure the escapes are code points, not UTF-8 bytes
            value = value.encode("latin-1").decode("utf-8")
    if _SURROGATE.search(value):
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _letter(match: re.Match[str]) -> str:
    two, four, eight, name, octal, simple = match.groups()
    if two or four or eight:
        code = int(two or four or eight, 16)
        if code > sys.maxunicode:
            raise ValueError(f"no character has the number {code:#x}")
        return chr(code)
    if name is not None:
        try:
            return unicodedata.lookup(name)
        except KeyError:
            raise ValueError(f"no character is called {name}") from None
    if octal:
        return chr(int(octal, 8))
    if simple in "xuUN":
        raise ValueError(f"a cut escape \\{simple}")
    return _SIMPLE.get(simple, "\\" + simple)


def _slowly(line: str) -> object:
    """Parses with `ast.literal_eval`, for bounded lines without operators or calls, which could nest deeply."""
    skeleton = _STRING_OR_OPEN.sub(_emptied, line)
    if len(line) > _MAX_FALLBACK_LENGTH or _depth(skeleton) > _MAX_DEPTH or _REFUSED.search(skeleton):
        raise ValueError("not a literal within bounds")
    try:
        return ast.literal_eval(line.strip())
    except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"not a literal: {type(error).__name__}") from error


def _emptied(match: re.Match[str]) -> str:
    if match["open"] is not None:
        raise ValueError("a string without an end")
    return "''"


def _depth(skeleton: str) -> int:
    depth = deepest = 0
    for letter in skeleton:
        if letter in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in ")]}":
            depth -= 1
    return deepest
