import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.parsing import json_arrays

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},: \n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(alphabet='a"]\\', max_size=4), VALUES, max_size=4)


def cut(data: bytes, size: int = 7, most: int = 1000) -> list[tuple[bytes, bool, bool]]:
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    return [
        (line, place in run.long, run.cut and place == len(run.lines) - 1)
        for run in json_arrays.element_runs(pieces, most)
        for place, line in enumerate(run.lines)
    ]


@given(st.lists(OBJECTS, max_size=8), st.sampled_from([None, 0, 2]), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_every_element_is_one_line(elements: list[Any], indent: int | None, size: int) -> None:
    found = cut(json.dumps(elements, indent=indent).encode(), size)
    assert [(json.loads(line), long, end) for line, long, end in found] == [(one, False, False) for one in elements]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b'[{"a": 1}, 7, {"b": 2}]', [b'{"a": 1}', b"7", b'{"b": 2}']),
        (b'[{"a": ]}, {"b": 2}]', [b'{"a": ]', b"}", b'{"b": 2}']),
        (b'[{"a": 1}]\n<html>', [b'{"a": 1}', b"<html>"]),
        (b"[]", []),
        (b"[\n]\n", []),
    ],
)
def test_what_is_no_element_is_a_line_of_its_own(data: bytes, lines: list[bytes]) -> None:
    assert [line for line, _, _ in cut(data, 1000)] == lines


@pytest.mark.parametrize("data", [b'[{"a": 1}, {"b": "x', b'[{"a": 1}', b'[{"a": 1},'])
def test_an_open_array_ends_with_a_cut_line(data: bytes) -> None:
    assert [end for _, _, end in cut(data)] == [False, True]


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_a_long_element_is_shortened_and_marked(size: int) -> None:
    data = json.dumps([{"a": '\\"]' * 2000}, {"b": [1]}]).encode()
    (first, long, _), (second, other, _) = cut(data, size, 100)
    assert (first[:9], len(first) <= 800, long, second, other) == (b'{"a": "\\\\', True, True, b'{"b": [1]}', False)


@given(st.binary(max_size=60), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_cut_without_a_crash(data: bytes, size: int) -> None:
    found = cut(b"[{" + data, size, 16)
    assert all(len(line) <= 800 for line, _, _ in found)
