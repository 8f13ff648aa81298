import gzip
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.errors import InputError
from pipelines.parsing import line_blocks


def test_a_damaged_archive_gives_the_lines_before_the_damage(tmp_path: Path) -> None:
    data = b"".join(b"%d\n" % n for n in range(1000))
    whole = bytearray(gzip.compress(data, mtime=0))
    whole[-6] ^= 0xFF  # the checksum
    path = tmp_path / "x.gz"
    path.write_bytes(bytes(whole))
    [block] = line_blocks.blocks(path, 10_000, 100)
    assert block.lines == [*data.splitlines(), b""]
    assert block.cut


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


def test_a_file_called_gz_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"x\.gz that is not gzip"):
        list(line_blocks.blocks(tmp_path / "x.gz", 10, 10))
