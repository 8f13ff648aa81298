import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.encoders.embedding_cache import Shards
from features.errors import TableError
from features.vision.image_decoding import Rejection
from features.vision.image_loader import Outcome

GOOD = [Outcome(digest="a", kind="JPEG", treatment=("rotated",)), Outcome(digest="b", kind="PNG")]
BAD = Outcome(digest="c", rejection=Rejection(reason="empty", detail="0 bytes"))


def test_what_is_filed_is_found_by_digest(tmp_path):
    shards = Shards(tmp_path, 2)
    shards.add(GOOD, np.array([[1, 2], [3, 4]], np.float32))
    shards.add([BAD], np.zeros((1, 2), np.float32))
    again = Shards(tmp_path, 2)
    assert again.known() == {"a", "b", "c"}
    found = again.find(["c", "b"])
    assert {found.outcomes[row].digest for row in found.rows.values()} == {"b", "c"}
    assert found.vectors[found.rows["b"]].tolist() == [3, 4]
    assert found.outcomes[found.rows["c"]] == BAD
    assert again.find(["a"]).outcomes == [GOOD[0]]
    assert again.find([]).vectors.shape == (0, 2)


def test_finished_shards_of_other_processes_are_seen(tmp_path):
    here, there = Shards(tmp_path, 2), Shards(tmp_path, 2)
    assert here.known() == set()
    there.add(GOOD, np.ones((2, 2), np.float32))
    (tmp_path / ".shard-x.parquet.7.tmp").write_bytes(b"half")
    assert here.known() == {"a", "b"}


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:100], lambda data: b"", lambda data: data[:60] + b"?" + data[61:]]
)
def test_a_corrupt_shard_is_reported_and_replaced(tmp_path, spoil, caplog):
    path = Shards(tmp_path, 2).add(GOOD, np.ones((2, 2), np.float32))
    path.write_bytes(spoil(path.read_bytes()))
    shards = Shards(tmp_path, 2)
    known = shards.known()
    if known:  # a flipped bit in a column that `known` does not read
        with pytest.raises(TableError, match="no longer holds"):
            shards.find(known)
    assert "is corrupt" in caplog.text
    assert Shards(tmp_path, 2).known() == set()
    assert path.with_suffix(".broken").is_file()


def test_an_unknown_digest_is_an_error(tmp_path):
    shards = Shards(tmp_path, 2)
    shards.add(GOOD, np.ones((2, 2), np.float32))
    with pytest.raises(TableError, match="1 features that"):
        shards.find(["a", "z"])


def test_shards_of_earlier_versions_are_still_read(tmp_path):
    path = Shards(tmp_path, 2).add(GOOD, np.array([[1, 2], [3, 4]], np.float32))
    table = pq.read_table(path)
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.float32()), 2)
    pq.write_table(table.set_column(table.schema.get_field_index("vector"), "vector", lists), path)
    again = Shards(tmp_path, 2)
    again.known()
    assert again.find(["b"]).vectors.tolist() == [[3, 4]]
