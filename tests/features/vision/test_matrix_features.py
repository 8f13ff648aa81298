import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.vision.matrix_features import B_WIDTH, read_binary, read_matrix
from features.vision.npy_features import Vectors


def saved(values: Any, **more: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **more)
    return stream.getvalue()


def matrix(folder: Path, values: Any, keys: str = "B1\nB2\nB3\n", sought: str = "B3 B9 B1 B2") -> Vectors:
    (folder / "image_feat.npy").write_bytes(values if isinstance(values, bytes) else saved(values))
    (folder / "keys.txt").write_text(keys)
    return read_matrix(folder / "image_feat.npy", folder / "keys.txt", sought.split())


def records(**rows: float) -> bytes:
    return b"".join(key.encode() + np.full(B_WIDTH, value, "<f4").tobytes() for key, value in rows.items())


def test_rows_follow_the_keys_and_zeros_are_missing(tmp_path: Path) -> None:
    found = matrix(tmp_path, np.array([[1, 2], [0, 0], [np.nan, 1]], np.float64))
    assert found.matrix.tolist() == [[0, 0], [0, 0], [1, 2], [0, 0]]
    assert found.statuses == ("rejected", "missing", "ok", "missing")
    assert found.rejects == (("B3", "a number that is not finite"),)
    assert (found.names, found.blank) == (("B1", "B2", "B3"), {"B2"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 2), int), "an array of int64 of shape"),
        (np.zeros(3), r"of shape \(3,\)"),
        (np.zeros((0, 2)), r"of shape \(0, 2\)"),
        (np.zeros((4, 2)), "3 keys in .* for 4 rows"),
        (saved(np.ones((3, 2)))[:-8], "cannot be read"),
        (saved(np.ones((3, 2))) + b"more", "4 bytes after its 3 rows"),
        (saved(np.array([{"a": 1}], object), allow_pickle=True), "cannot be read"),
        (b"<html>", "cannot be read"),
        (saved(np.ones((3, 2))).replace(b"'shape': (3, 2)", b"'shape': [(3,2 "), "cannot be read"),
    ],
)
def test_a_matrix_that_does_not_fit_is_one_line(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        matrix(tmp_path, values)
    assert "\n" not in str(caught.value)


def test_the_2014_file_of_features_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.vision.matrix_features.ROWS_AT_ONCE", 2)
    path = tmp_path / "image_features_X.b"
    path.write_bytes(
        records(B000000001=1, B000000002=0, B000000003=2, B000000009=5) + records(B000000001=7)
    )  # fmt: skip
    found = read_binary(path, ["B000000003", "B000000001", "B000000002", "B000000004"])
    assert found.matrix[:, 0].tolist() == [2, 1, 0, 0]
    assert found.matrix.shape == (4, B_WIDTH)
    assert found.statuses == ("ok", "ok", "missing", "missing")
    assert found.names == ("B000000001", "B000000002", "B000000003", "B000000009")


@pytest.mark.parametrize("data", [b"", records(B000000001=1)[:-1], b"<html>" * 2732 + b"xx"])
def test_another_file_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.b").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.b") as caught:
        read_binary(tmp_path / "x.b", ["B1"])
    assert "\n" not in str(caught.value)


WHOLE = records(B000000001=1, B000000002=2)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(WHOLE)), junk=st.binary(max_size=30), place=st.integers(0, len(WHOLE)))
def test_a_spoilt_file_is_read_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("b") / "x.b"
    path.write_bytes((WHOLE[:place] + junk + WHOLE[place + len(junk) :])[:cut])
    try:
        found = read_binary(path, ["B000000001", "B000000002"])
    except InputError:
        return
    assert np.isfinite(found.matrix).all()
    assert set(found.statuses) <= {"ok", "missing", "rejected"}
