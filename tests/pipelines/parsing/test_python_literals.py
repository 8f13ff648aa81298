import ast
import contextlib
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.parsing import python_literals

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


def has_utf8_bytes(value: Any) -> bool:
    """Whether some text reads as UTF-8 bytes, which `parse` decodes on purpose if they are escaped."""
    return any(chr(code) in str(value) for code in range(0x80, 0x100))


@given(VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_parse_reads_what_repr_writes(value: Any) -> None:
    line = repr(value)
    if not has_utf8_bytes(value) and "\\x8" not in line and "\\x9" not in line:
        assert python_literals.parse(line) == ast.literal_eval(line)


@given(st.text(alphabet="{}[]()'\"\\:, ax1-+.eNTF", max_size=18))
@settings(max_examples=600, deadline=None)
def test_parse_never_reads_a_python_literal_differently(line: str) -> None:
    try:
        expected = ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return
    try:
        found = python_literals.parse(line)
    except ValueError:
        return
    assert found == expected


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("{'asin': 'B1', 'price': 7.09}", {"asin": "B1", "price": 7.09}),
        ("""{'title': "Player's 12\\" guide"}""", {"title": "Player's 12\" guide"}),
        ("{'title': 'it\\'s \"here\"'}", {"title": 'it\'s "here"'}),
        ("{'a': None, 'b': True, 'c': False}", {"a": None, "b": True, "c": False}),
        ("{'None': 'None, True'}", {"None": "None, True"}),
        ("{u'title': u'Caf\\xe9'}", {"title": "Café"}),
        ("{'title': 'Caf\\xc3\\xa9'}", {"title": "Café"}),
        ("{'title': '\\ud83d\\ude00'}", {"title": "😀"}),
        ("{'title': '\\U0001f600 \\N{BULLET} \\101'}", {"title": "😀 • A"}),
        ("{'title': 'tab\there'}", {"title": "tab\there"}),
        ("{'pair': ('a', 1)}", {"pair": ("a", 1)}),
        ("{'rank': {'Music & Arts': 28}}", {"rank": {"Music & Arts": 28}}),
        ("{1: 2}", {1: 2}),
        ("{'long': 123456789012345678901234567890}", {"long": 1.2345678901234568e29}),
    ],
)
def test_literals_of_real_dumps(line: str, value: object) -> None:
    assert python_literals.parse(line) == value


@pytest.mark.parametrize(
    "line",
    [
        "{'asin': 'B1', 'title': 'cut sho",
        "{'asin': __import__('os').getcwd()}",
        "{'price': float('inf') or 1}",
        "{'price': nan}",
        "[x for x in (1, 2)]",
        "{'a': 1 + 1}",
        "{'a': 'bad \\x4'}",
        "{'a': '\\N{NO SUCH LETTER}'}",
        "[" * 5000,
        "-" * 5000 + "1",
        "1" + "+1" * 20000,
        "f" + "()" * 20000,
        "x" + "[0]" * 20000,
        "(" * 30 + ")" * 30,
        "",
    ],
)
def test_what_is_no_literal_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reader needs the type alone
        python_literals.parse(line)


def test_names_of_letters_are_those_of_the_unicode_database() -> None:
    assert python_literals.parse("'\\N{SNOWMAN}'") == unicodedata.lookup("SNOWMAN")


def seconds_of(line: str) -> float:
    begin = time.process_time()
    with contextlib.suppress(ValueError):
        python_literals.parse(line)
    return time.process_time() - begin


@pytest.mark.parametrize(
    "unit",
    [
        "\\'",
        '\\"',
        "\\\\",
        "'",
        '"',
        "'\\",
        "\\N{",
        "\\x4",
        "u'",
        "[",
        "{'a': ",
        "'a' ",
        "-",
        "x",
        " ",
        "\t'",
        "a ",
        "\\'\"",
        "'\\'\"",
    ],
)
@pytest.mark.parametrize("begin", ["", "{'title': '", "{'title': \"", "['a', '"])
@pytest.mark.parametrize("end", ["", "}", "'}", '"]'])
def test_time_grows_with_the_length_of_a_line(unit: str, begin: str, end: str) -> None:
    short, long = (seconds_of(begin + unit * (size // len(unit)) + end) for size in (20_000, 160_000))
    assert long < 24 * short + 0.1, f"{short:.4f} s, then {long:.4f} s for 8 times the length"


def test_escapes_beyond_unicode_are_a_value_error() -> None:
    for line in (r"{'a': '\UFFFFFFFF'}", r"{'a': '\U00110000'}"):
        with pytest.raises(ValueError, match="not a literal"):
            python_literals.parse(line)
