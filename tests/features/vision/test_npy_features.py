import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import InputError
from features.vision.npy_features import read_vector, read_vectors


def saved(values: Any, **more: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **more)
    return stream.getvalue()


def test_vectors_follow_the_order_of_the_keys(tmp_path: Path) -> None:
    (tmp_path / "A.npy").write_bytes(saved(np.array([1, 2, 3], np.float32)))
    (tmp_path / "B.npy").write_bytes(saved(np.array([[4, 5, 6]], np.float16)))
    (tmp_path / "C.npy").write_bytes(saved(np.array([1, 2], np.float32)))
    (tmp_path / "D.npy").write_bytes(b"an error page")
    found = read_vectors(tmp_path, ["B", "X", "A", "C", "D", "../A", "A"])
    assert found.matrix.tolist() == [[4, 5, 6], [0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert found.statuses == ("ok", "missing", "ok", "rejected", "rejected", "rejected", "ok")
    assert [key for key, _ in found.rejects] == ["../A", "C", "D"]
    assert found.rejects[1][1] == "2 numbers where most have 3"


HUGE = saved(np.zeros(3, np.float32)).replace(b"(3,)", b"(9000000000000,)").replace(b"}            ", b"}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (saved(np.array([{"a": 1}], object), allow_pickle=True), "an array of object"),
        (pickle.dumps([1.0]), "magic"),
        (saved(np.array([1, 2])), "an array of int64"),
        (saved(np.array([1.0, np.nan])), "not finite"),
        (saved(np.array([1e300])), "not finite"),
        (saved(np.zeros((2, 3), np.float32)), r"shape \(2, 3\)"),
        (saved(np.zeros(0, np.float32)), r"shape \(0,\)"),
        (saved(np.zeros(9, np.float32))[:-4], "bytes where the header says 9 numbers"),
        (HUGE, "bytes where the header says 9000000000000 numbers"),
        (b"", "EOF|magic"),
    ],
)
def test_a_file_that_is_no_vector_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_vector(tmp_path / "x.npy")


def test_a_folder_without_features_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable feature"):
        read_vectors(tmp_path, ["A"])
    with pytest.raises(InputError, match="no folder"):
        read_vectors(tmp_path / "x", ["A"])
