import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.errors import InputError
from pipelines.parsing import byte_pieces, line_blocks

LINES = [b"%d" % n for n in range(200_000)]


def damaged(path: Path, content: bytes) -> list[bytes]:
    """The lines before the damage, without the last one, which is marked as cut."""
    path.write_bytes(content)
    found = list(line_blocks.blocks(path, 10_000, 100))
    assert [block.cut for block in found] == [*[False] * (len(found) - 1), True]
    return [line for block in found for line in block.lines][:-1]


@pytest.mark.parametrize("lost", [1, 9, 100_000])
def test_a_truncated_archive_gives_the_lines_before_its_end(tmp_path: Path, lost: int) -> None:
    whole = gzip.compress(b"\n".join(LINES) + b"\n", mtime=0)
    kept = zlib.decompressobj(wbits=31).decompress(whole[:-lost])
    assert damaged(tmp_path / "x.gz", whole[:-lost]) == kept.split(b"\n")[:-1]


@pytest.mark.parametrize(("place", "share"), [(-6, 0.9), (-200_000, 0.4)])  # the checksum, the middle
def test_a_corrupt_archive_gives_most_lines_before_the_damage(tmp_path: Path, place: int, share: float) -> None:
    whole = bytearray(gzip.compress(b"\n".join(LINES) + b"\n", mtime=0))
    whole[place] ^= 0xFF
    sound = int(share * len(LINES))
    assert damaged(tmp_path / "x.gz", bytes(whole))[:sound] == LINES[:sound]


def test_a_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"a\nb") + gzip.compress(b"c\nd\n") + b"\0" * 600)
    assert [line for block in line_blocks.blocks(path, 2, 100) for line in block.lines] == [b"a", b"bc", b"d"]


@given(
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=20),
    st.integers(1, 7),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_blocks_hold_the_lines_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, zipped: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / ("x.gz" if zipped else "x")
    data = b"".join(line + b"\n" for line in lines)
    assume(zipped or not data.startswith(b"\x1f\x8b"))
    path.write_bytes(gzip.compress(data) if zipped else data)
    found = list(line_blocks.blocks(path, size, 1000))
    assert [line for block in found for line in block.lines] == lines
    assert all(len(block.lines) == size for block in found[:-1])
    assert [block.first_line for block in found] == [1 + size * n for n in range(len(found))]


@pytest.mark.parametrize(
    ("data", "remedy"),
    [(b"", "is empty"), (b"\xef\xbb\xbf <!DOCTYPE html>", "web page"), (b"BZh9", "binary"), (b"{\0", "binary")],
)
def test_a_file_called_gz_that_is_no_dump_is_refused(tmp_path: Path, data: bytes, remedy: str) -> None:
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(InputError, match=rf"x\.gz that is not gzip.*do: .*{remedy}"):
        list(line_blocks.blocks(tmp_path / "x.gz", 10, 10))


def test_a_dump_that_a_browser_inflated_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b'{"a": 1}\n{"a": 2}')
    assert not byte_pieces.check_gzip(tmp_path / "x.gz")
    [block] = line_blocks.blocks(tmp_path / "x.gz", 10, 100)
    assert block.lines == [b'{"a": 1}', b'{"a": 2}']
