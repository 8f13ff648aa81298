import collections
import contextlib
import datetime as dt
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from pipelines.parsing import safe_pickle

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=9)
)
KEYS = (
    st.none() | st.booleans() | st.integers(1 - (1 << 60), (1 << 60) - 1) | st.text(max_size=8) | st.binary(max_size=4)
)
PLAIN = st.recursive(
    SCALARS | st.sets(KEYS, max_size=3) | st.frozensets(KEYS, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=5).map(tuple)
    ),
    max_leaves=15,
)


def read(folder: Path, data: bytes, **more: int) -> Any:
    path = folder / "x.pkl"
    path.write_bytes(data)
    return safe_pickle.read(path, **more)


@given(PLAIN, st.sampled_from([4, 5]))
@settings(max_examples=150, deadline=None)
def test_plain_containers_come_back(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    assert read(tmp_path_factory.getbasetemp(), pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_the_published_bundles_is_read(tmp_path: Path, protocol: int) -> None:
    record = {
        "reviewerID": "U1",
        "helpful": [0, 1],
        "overall": 5.0,
        "explanation": "Caf\u00e9",
        "pair": (1, 2**70, None),
    }
    value = {"train": [record, record], "val": [], "test": [{"a": True, "b": -7, "c": 1e300, "d": (1, 2, 3, 4)}]}
    found = read(tmp_path, pickle.dumps(value, protocol))
    assert found == value
    assert found["train"][0] is found["train"][1]


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_numbers_become_plain_ones(tmp_path: Path, protocol: int) -> None:
    value = [np.float64(4.5), np.float32(2.25), np.int64(-(2**40)), np.uint8(200), np.bool_(True), np.float64(0.1)]
    found = read(tmp_path, pickle.dumps({"a": value, "b": value[0]}, protocol))
    assert found == {"a": [4.5, 2.25, -(2**40), 200, True, 0.1], "b": 4.5}
    assert [type(one) for one in found["a"]] == [float, float, int, int, bool, float]


@pytest.mark.parametrize(
    "value",
    [np.arange(3), np.dtype("f8"), [np.dtype("f8")], np.datetime64("2014-01-01"), np.str_("x"), np.complex128(1)],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_numpy_objects_are_refused(tmp_path: Path, value: Any, protocol: int) -> None:
    with pytest.raises(InputError, match=r"x\.pkl (with|that is not a complete pickle)"):
        read(tmp_path, pickle.dumps(value, protocol))


def test_a_numpy_number_of_python_2_is_read(tmp_path: Path) -> None:
    number = (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbU\x08%stR."
    )
    for value in (4.0, 0.1, -1e300):
        assert read(tmp_path, number % struct.pack("<d", value)) == value


def test_texts_of_python_2_are_decoded(tmp_path: Path) -> None:
    assert read(tmp_path, b"(lp0\nS'Cafe'\np1\naU\x05Caf\xc3\xa9a.") == ["Cafe", "Caf\u00e9"]
    assert read(tmp_path, b"U\x04Caf\xe9.") == "Caf\u00e9"


class Loud:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Loud(), r"builtins\.exec"), (print, r"builtins\.print"), (dt.date(2020, 1, 1), r"datetime\.date"),
        (collections.OrderedDict(a=1), r"collections\.OrderedDict"),
        (collections.Counter("ab"), r"collections\.Counter"),
        (1j, r"builtins\.complex"), (Path("x"), r"pathlib\."), (bytearray(b"x"), "BYTEARRAY8|builtins.bytearray"),
        ({"deep": [({"deeper": Loud()},)]}, r"builtins\.exec"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_global_is_refused_by_name(tmp_path: Path, value: Any, name: str, protocol: int) -> None:
    name = name.replace("builtins", "(builtins|__builtin__)") if protocol < 3 else name
    with pytest.raises(
        InputError, match=rf"x\.pkl with the (global|operation) ({name}).* at byte \d+; expected a pickle"
    ):
        read(tmp_path, pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    "data",
    [
        b"", b".", b"N", b"(.", b"}(K\x01.", b"a.", b"e.", b"]]s.", b"0.", b"h\x05.", b"(((((", b"NN.",
        b"garbage", b"}(]K\x01u.", b"\x8f(]\x90.", b"(K\x01K\x02K\x03d.", b"L" + b"9" * 10_000 + b"L\n.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",  # a text of 2^63 bytes
        b"\x8b\xff\xff\xff\x7fx.",  # an integer of 2 GB
        b"T\xff\xff\xff\x7fx.", b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", b"]q\x00h\x01.", b"(0.", b"(2.", b"]((\x86.",
    ],
)  # fmt: skip
def test_damaged_and_lying_pickles_are_one_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.pkl"):
        read(tmp_path, data)


def test_a_memo_place_of_four_thousand_millions_costs_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, b"]r\xff\xff\xff\xffj\xff\xff\xff\xff0.") == []


def test_too_many_operations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 1,000 operations"):
        read(tmp_path, b"(" + b"]" * 5000 + b"l.", max_operations=1000)


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_value_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with contextlib.suppress(InputError):
        read(tmp_path_factory.getbasetemp(), data)


@pytest.mark.parametrize("make", [set, dict.fromkeys, frozenset])
def test_keys_that_share_a_hash_are_refused(tmp_path: Path, make: Any) -> None:
    """Multiples of 2^61 - 1 have the hash 0: a dictionary of n of them takes n^2 steps."""
    path = tmp_path / "keys.pkl"
    path.write_bytes(pickle.dumps(make([n * sys.hash_info.modulus for n in range(1, 300)]), protocol=4))
    with pytest.raises(InputError, match=r"a key of \d\d bits"):
        safe_pickle.read(path)
