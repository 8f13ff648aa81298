"""Hostile input to `records`: each kind is a reject with a reason or one clear error; nothing is lost or half-written.

Wrong bytes, values and types of single lines are in test_amazon.py, cut archives in test_line_blocks.py, wrong pickles
in test_safe_pickle.py; here are the cases that concern the whole stage.
"""

import gzip
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import InputError, TableError
from features.runtime.stage import Context
from features.store import tables
from pipelines import records, sequences
from pipelines.parsing import line_blocks
from tests.pipelines.review_2014 import GOOD, dumped

ROOT = Path(__file__).parents[2]


def params(**more: Any) -> dict[str, Any]:
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": ["m.json"]}
    whole = {"dataset": "tiny", "seed": 1, "beam": {}, "records": more, "datasets": {"tiny": entry}}
    return whole | {"sequences": {"k_core": 5}}


def put(root: Path, reviews: bytes, metadata: bytes = b"", **more: Any) -> Context:
    raw = root / "data" / "raw" / "tiny"
    raw.mkdir(parents=True)
    (raw / "r.json.gz").write_bytes(reviews)
    (raw / "m.json").write_bytes(metadata)
    (root / "params.yaml").write_text(json.dumps(params(**more)))
    shared = {"datasets": params()["datasets"]["tiny"], "beam": {}}
    return Context(dataset="tiny", root=root, seed=1, shared=shared)


def run(root: Path, stage: str = "records", **more: Any) -> subprocess.CompletedProcess[str]:
    """The stage as its command line starts it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", f"pipelines.{stage}"]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=300, **more
    )  # fmt: skip


def rejects(context: Context) -> list[tuple[int, str]]:
    table = tables.read_table(context.table("records/rejects"), schema.REJECTS)
    return [(row["line"], row["reason"]) for row in table.to_pylist()]


def kept(context: Context) -> list[dict[str, Any]]:
    return list(tables.read_table(context.table("records/reviews"), schema.REVIEWS).to_pylist())


def one_error(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    [line] = [line for line in done.stderr.splitlines() if line.startswith(("records:", "sequences:"))]
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert line.split(": ", 1)[1].startswith("found ")
    for word in words:
        assert word in line


def nothing_written(root: Path) -> bool:
    return not any(path.is_file() for path in (root / "data").rglob("*") if "raw" not in path.parts)


@pytest.mark.parametrize("filling", [b"a", b"\0"], ids=["one line", "zeros"])
def test_a_bomb_is_one_error_before_memory_or_disk_fill(tmp_path: Path, filling: bytes) -> None:
    bomb = gzip.compress(dumped(GOOD) + b"\n") + gzip.compress(filling * 100_000_000, 9)
    context = put(tmp_path, bomb)
    with pytest.raises(
        InputError, match=r"r\.json\.gz that decompresses to more than 100 times its size \([\d,]+ bytes to [\d,]+\)"
    ):
        records.run(records.Params(), context)
    assert nothing_written(tmp_path)


def test_a_bomb_of_empty_lines_stops_after_a_few_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    path.write_bytes(gzip.compress(b"\n" * 100_000_000, 9))
    blocks = line_blocks.blocks(path, 20_000, 1 << 20, 100)
    with pytest.raises(InputError, match="decompresses to more than 100 times its size"):
        list(itertools.islice(blocks, (1 << 24) // 20_000))


def test_a_line_of_100_mb_takes_no_more_memory(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with path.open("wb") as stream:
        stream.write(b'{"reviewText": "')
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"}\n' + dumped(GOOD) + b"\n")
    code = (
        "import resource, pathlib; from pipelines.parsing import line_blocks;"
        f"[block] = line_blocks.blocks(pathlib.Path({str(path)!r}), 1000, 1 << 20);"
        "print(len(block.lines), sorted(block.long), len(block.lines[0]),"
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    found = [
        subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for source in (code, code.replace(str(path), str(short(tmp_path))))
    ]
    (*shape, peak), (*_, usual) = (line.split() for line in found)
    assert shape == ["2", "[1]", "800"]
    assert int(peak) - int(usual) < 12_000  # kilobytes


@pytest.mark.parametrize("rare", ["", ", 'rank': None", ", 'pair': u'two'"])
def test_metadata_literals_up_to_a_megabyte_are_read(tmp_path: Path, rare: str) -> None:
    begin, end = "{'asin': 'B1', 'title': \"Kel'tav\"" + rare + ", 'description': '", "'}"
    unit = 'It\\\'s "12\\" wide", caf\\xc3\\xa9 {[1, None]}; '
    room = (1 << 20) - len(begin) - len(end)
    times, rest = divmod(room, len(unit))
    whole = begin + unit * times + "x" * rest + end
    longer = whole.replace("'B1'", "'B22'")
    assert (len(whole), len(longer)) == (1 << 20, (1 << 20) + 1)
    context = put(tmp_path, gzip.compress(dumped(GOOD) + b"\n"), f"{whole}\n{longer}\n".encode())
    records.run(records.Params(), context)
    [item] = tables.read_table(context.table("records/items"), schema.ITEMS).to_pylist()
    assert (item["item_key"], item["title"]) == ("B1", "Kel'tav")
    read = 'It\'s "12" wide", café {[1, None]}; '
    assert item["description"] == (read * times + "x" * rest).strip()
    [reject] = tables.read_table(context.table("records/rejects"), schema.REJECTS).to_pylist()
    assert (reject["line"], reject["reason"]) == (2, "line_too_long")


def short(folder: Path) -> Path:
    path = folder / "short.json"
    path.write_bytes(dumped(GOOD) + b"\n")
    return path


def test_memory_grows_with_the_block_and_not_with_the_file(tmp_path: Path) -> None:
    lines = b"".join(dumped(GOOD | {"reviewText": f"{n} " * 150}) + b"\n" for n in range(5_000))
    peaks = []
    for times in (2, 12):
        path = tmp_path / f"{times}.json.gz"
        path.write_bytes(gzip.compress(lines, 1) * times)
        code = (
            "import resource, pathlib; from pipelines.parsing import amazon, line_blocks;"
            f"blocks = line_blocks.blocks(pathlib.Path({str(path)!r}), 2000, 1 << 20);"
            "print(sum(amazon.read_reviews(block, 'x', 'amazon2014').kept_lines for block in blocks),"
            " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        num_lines, peak = map(int, done.stdout.split())
        assert num_lines == 5_000 * times
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 12_000  # kilobytes, of 40 MB of text


def test_wrong_encodings_zeros_and_duplicate_keys(tmp_path: Path) -> None:
    lines = [
        json.dumps(GOOD).encode("utf-16-le"), dumped(GOOD).replace(b"Good", b"Caf\xe9"), b"\0" * 50,
        dumped(GOOD).replace(b"Kelo", b"Ke\0lo"), dumped(GOOD | {"reviewText": "a\0b"}),
        dumped(GOOD)[:-1] + b', "asin": "B2"}', b"\xef\xbb\xbf" + dumped(GOOD),
        dumped(GOOD | {"reviewerID": "../../etc/x"}),
    ]  # fmt: skip
    context = put(tmp_path, gzip.compress(b"\n".join(lines)))
    records.run(records.Params(max_rejected_share=1), context)
    assert rejects(context) == [
        (1, "not_parsable"), (2, "not_utf8"), (3, "not_parsable"), (7, "not_parsable"),
    ]  # fmt: skip
    assert [row["user_name"] for row in kept(context)] == ["Kelo Tav"] * 4
    found = [(row["line"], row["user_key"], row["item_key"], row["text"]) for row in kept(context)]
    assert found == [
        (4, "U1", "B1", "Salt & pepper."), (5, "U1", "B1", "ab"), (6, "U1", "B2", "Salt & pepper."),
        (8, "../../etc/x", "B1", "Salt & pepper."),
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml"]


def test_invalid_ratings_and_times_are_rejected(tmp_path: Path) -> None:
    changes: list[tuple[str, Any]] = [
        ("overall", "NaN"), ("overall", "Infinity"), ("overall", "-Infinity"), ("overall", "1e999"),
        ("unixReviewTime", 2**33), ("unixReviewTime", 4_102_444_800), ("unixReviewTime", "NaN"), ("unixReviewTime", -1),
    ]  # fmt: skip
    lines = [dumped(GOOD | {name: "@"}).replace(b'"@"', str(value).encode()) for name, value in changes]
    context = put(tmp_path, gzip.compress(b"\n".join(lines)))
    records.run(records.Params(max_rejected_share=1), context)
    assert rejects(context) == [
        (1, "bad_rating"), (2, "bad_rating"), (3, "bad_rating"), (4, "bad_rating"), (5, "bad_time"), (7, "bad_time"),
        (8, "bad_time"),
    ]  # fmt: skip
    assert [(row["line"], row["timestamp"]) for row in kept(context)] == [(6, 4_102_444_800)]  # the year 2100


def test_an_empty_file_has_no_reviews_an_empty_archive_fails(tmp_path: Path) -> None:
    context = put(tmp_path, gzip.compress(b""))
    with pytest.raises(InputError, match=r"found r\.json\.gz without a line; it looks like an empty file"):
        records.run(records.Params(), context)
    assert nothing_written(tmp_path)
    assert records.run(records.Params(max_rejected_share=1), context) == 0
    assert kept(context) == []
    with pytest.raises(TableError, match="0 of 0 reviews in the 5-core"):
        sequences.run(sequences.Params(), context)
    (context.raw / "r.json.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"r\.json\.gz that is not gzip \(it begins with b''\)"):
        records.run(records.Params(), context)
    assert kept(context) == []


def test_a_folder_where_a_file_should_be_is_one_error(tmp_path: Path) -> None:
    context = put(tmp_path, b"")
    (context.raw / "r.json.gz").unlink()
    (context.raw / "r.json.gz").mkdir()
    one_error(run(tmp_path), 3, "r.json.gz that is not a file")
    assert nothing_written(tmp_path)


def test_a_full_disk_is_one_error_and_leaves_the_old_tables(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    many = b"".join(dumped(GOOD | {"reviewText": os.urandom(300).hex()}) + b"\n" for _ in range(400))
    put(workspace, gzip.compress(dumped(GOOD)))
    assert records.main([]) == 0
    folder = workspace / "data" / "tiny"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (workspace / "data/raw/tiny/r.json.gz").write_bytes(gzip.compress(many))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, usual[1]))  # a file cannot grow further, as on a full disk
    try:
        code = records.main([])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert code == 4
    assert_one_error(caplog, "cannot be written (", "File too large")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def assert_one_error(caplog: pytest.LogCaptureFixture, *words: str) -> None:
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    line = error.getMessage()
    assert line.startswith("records: found ")
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_folder_that_may_not_be_written_is_one_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(tempfile.mkdtemp())
    put(folder, gzip.compress(dumped(GOOD)))
    monkeypatch.chdir(folder)
    folder.chmod(0o755)
    assert records.main([]) == 0  # imports what it needs, while it may read it
    shutil.rmtree(folder / "data" / "tiny")
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # permissions do not bind root
    else:
        (folder / "data").chmod(0o555)
    try:
        code = records.main([])
    finally:
        os.seteuid(user)
        (folder / "data").chmod(0o755)
    assert code == 4
    assert_one_error(caplog, "Permission denied")
    assert nothing_written(folder)
    shutil.rmtree(folder)


def test_many_users_with_one_review_each_end_in_one_error(tmp_path: Path) -> None:
    """The full million is measured in docs/benchmarks/records.md; here are a hundred thousand."""
    line = dumped(GOOD).replace(b'"U1"', b'"U%d"').replace(b'"B1"', b'"B%d"')
    context = put(tmp_path, gzip.compress(b"\n".join(line % (n, n % 5000) for n in range(100_000)), 1))
    assert records.run(records.Params(), context) == 100_000
    with pytest.raises(TableError, match=r"0 of 100,?000 reviews in the 5-core; .* of 1 item;.* a larger dump"):
        sequences.run(sequences.Params(), context)
    assert not context.table("sequences").exists() or nothing_in(context.table("sequences"))


def nothing_in(folder: Path) -> bool:
    return not any(path.is_file() for path in folder.rglob("*"))


def test_a_huge_number_of_rejects_stays_in_blocks(tmp_path: Path) -> None:
    blocks = list(line_blocks.blocks(short(tmp_path), 1, 100))
    assert [len(block.lines) for block in blocks] == [1]
    context = put(tmp_path / "x", gzip.compress(b"\n" * 50_000))
    records.run(records.Params(max_decompression_ratio=1e9, max_rejected_share=1), context)
    found = rejects(context)
    assert len(found) == 50_000
    assert {reason for _, reason in found} == {"not_parsable"}
