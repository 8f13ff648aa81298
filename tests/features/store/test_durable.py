import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.store import durable
from features.store.durable import write_text

ROOT = Path(__file__).parents[3]


def test_a_text_replaces_the_one_before(tmp_path):
    page = tmp_path / "page.html"
    for text in ("one", "zwei ü\n"):
        write_text(page, text)
        assert page.read_bytes() == text.encode()
    assert list(tmp_path.iterdir()) == [page]


def test_a_full_disk_leaves_the_page_before(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    write_text(page, "before")

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(page, "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", "before")]


def test_a_temporary_of_a_killed_run_is_replaced(tmp_path):
    page = tmp_path / "gate.json"
    killed = (
        "import os, sys; from pathlib import Path; from features.store import durable;"
        "durable.flush = lambda path: os.kill(os.getpid(), 9); durable.write_text(Path(sys.argv[1]), 'half')"
    )
    write_text(page, "before")
    done = subprocess.run([sys.executable, "-c", killed, str(page)], cwd=ROOT, check=False)
    assert (done.returncode, page.read_text()) == (-9, "before")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(page, "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("gate.json", "after")]


def test_a_device_is_written_to():
    write_text(Path("/dev/null"), "text")
    assert not Path("/dev/null").is_file()


def test_no_module_writes_a_report_in_place():
    """Everything in `metrics`, `plots` and `reports` goes through `write_text`."""
    modules = [
        "pipelines/data_report.py", "modeling/model_report.py", "modeling/recommend.py", "modeling/repeat.py",
        "modeling/evaluation/results.py", "modeling/training/curves.py", "modeling/reporting/curve_plots.py",
        "flows/registry/findings.py", "flows/retraining/steps.py",
    ]  # fmt: skip
    for name in modules:
        text = (ROOT / name).read_text()
        assert ".write_text(" not in text, name
        assert '.open("w"' not in text, name
        assert "write_text(" in text, name
