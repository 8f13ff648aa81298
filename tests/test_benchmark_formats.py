from pathlib import Path

import pytest

from benchmarks import formats
from tests.pipelines.parsing.one_file import read


@pytest.mark.parametrize("case", [case for case in formats.CASES if not case.startswith("amazon")])
def test_made_up_files_are_read_without_a_reject(tmp_path: Path, case: str) -> None:
    form, name, lines = formats.CASES[case]
    formats.write(tmp_path / name, lines(60))
    found = read(
        tmp_path, (tmp_path / name).read_bytes(), form, name=name, kind="items" if name == "movies.csv" else "reviews"
    )
    assert (found.num_lines, found.num_kept, found.rejects) == (60, 60, [])
