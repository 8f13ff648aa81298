import json
import logging
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InputError
from features.runtime import stage
from features.runtime.logs import JsonLines, formatter, shown
from pipelines import sequences


def test_plain_lines_by_default_and_json_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.LogRecord("vip5", logging.INFO, "f.py", 1, "%s: done", ("records",), None)
    record.rows, record.seconds, record.stage = 5, 1.25, "records"
    assert formatter().format(record) == "records: done"
    monkeypatch.setenv("VIP5_LOG", "json")
    monkeypatch.setenv("VIP5_RUN", "r1")
    line = json.loads(formatter().format(record))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info", "message": "records: done", "run": "r1", "stage": "records", "rows": 5, "seconds": 1.25
    }  # fmt: skip


def test_an_error_with_its_traceback_is_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    text = JsonLines().format(logging.LogRecord("vip5", logging.ERROR, "f.py", 1, "broken", (), caught))
    assert "\n" not in text
    assert "two\nlines" in json.loads(text)["error"]


@pytest.fixture
def params(workspace: Path) -> Path:
    path = workspace / "params.yaml"
    whole = {"dataset": "d", "seed": 1, "sequences": {}, "datasets": {"d": {}}}
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.mark.parametrize("fails", [False, True])
def test_every_stage_leaves_a_line_on_record(params: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setenv("VIP5_RUN_LOG", "stages.jsonl")
    monkeypatch.setenv("VIP5_RUN", "r1")

    def run(_params: sequences.Params, _context: stage.Context) -> int:
        """Does little."""
        if fails:
            raise InputError("nothing", "something", "look")
        return 7

    code = stage.main("sequences", sequences.Params, ("datasets",), run, ["--params", str(params)])
    line = json.loads(Path("stages.jsonl").read_text())
    assert code == line["exit_code"] == (3 if fails else 0)
    assert (line["run"], line["stage"], line["rows"]) == ("r1", "sequences", None if fails else 7)
    assert line["seconds"] >= 0
    assert line["peak_memory_bytes"] > 1_000_000


@given(st.text())
def test_a_log_shows_no_control_character(text: str) -> None:
    kept = shown(text)
    assert not {c for c in kept if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}} - {"\n", "\t"}
    assert shown(kept) == kept


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_escapes_and_passwords_are_never_raw_in_a_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIP5_LOG", kind)
    record = logging.LogRecord(
        "vip5", logging.ERROR, "f", 1, "no %s at %s", ("\x1b]0;x\x07", "https://u:pw@h/api"), None
    )
    line = formatter().format(record)
    assert "\x1b" not in line
    assert "pw" not in line
    assert "https://***@h/api" in line
