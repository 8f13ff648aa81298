from pathlib import Path

import polars as pl
import pytest

from features.errors import TableError
from pipelines.sequencing.frame_store import Pieces

FRAME = pl.DataFrame(
    {"user": [2**64 - 1, 1], "name": ["Zo\u00eb", None]}, schema={"user": pl.UInt64, "name": pl.String}
)


@pytest.mark.parametrize("on_disk", [True, False])
def test_frames_round_trip_and_are_dropped_by_prefix(tmp_path: Path, on_disk: bool) -> None:
    pieces = Pieces(folder=tmp_path if on_disk else None)
    for name in ("b-1", "a-1", "a-0"):
        pieces.write(name, FRAME)
    pieces.write("a-1", FRAME[:0])
    assert pieces.names("a-") == ["a-0", "a-1"]
    assert pieces.read("a-0").equals(FRAME)
    assert [scan.collect().height for scan in pieces.lazily("a-")] == [2, 0]
    pieces.drop("a-")
    assert pieces.names("") == ["b-1"]
    assert len(list(tmp_path.iterdir())) == (1 if on_disk else 0)


def test_a_folder_that_is_gone_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"cannot be written.*a disk with room"):
        Pieces(folder=tmp_path / "gone").write("a", FRAME)


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(frame: pl.DataFrame, path: Path, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_ipc", full)
    with pytest.raises(TableError, match=r"a\.\d+\.tmp that cannot be written \(No space left on device\)"):
        Pieces(folder=tmp_path).write("a", FRAME)
