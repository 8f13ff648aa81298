"""Progress without a terminal: few lines, with the time left, from the first process only."""

import logging

import pytest

from features.runtime import progress
from features.runtime.progress import Progress, clock


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(progress, "time", own)
    monkeypatch.setattr(progress, "_said", [own.now])
    return own


def test_a_line_comes_at_most_every_ten_seconds(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vip5"), Progress(100, "train", "steps") as bar:
        for _ in range(25):
            time.now += 1
            bar.show(loss="2.31")
            bar.update()
    assert caplog.messages == [
        "train: 10 of 100 steps, 1:30 left (loss 2.31)",
        "train: 20 of 100 steps, 1:20 left (loss 2.31)",
    ]


def test_short_loops_one_after_the_other_share_the_clock(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vip5"):
        for name in ("first", "second", "third"):
            with Progress(4, name, "units") as bar:
                for _ in range(4):
                    time.now += 1
                    bar.update()
    assert caplog.messages == ["third: 2 of 4 units, 0:02 left"]


def test_a_time_limit_that_comes_first_is_the_time_left(time: Clock) -> None:
    with Progress(100, "train", "steps", limit=30) as bar:
        time.now += 10
        bar.update(10)
        assert bar.line() == "train: 10 of 100 steps, 0:20 left"


def test_a_run_that_goes_on_measures_its_own_pace(time: Clock) -> None:
    with Progress(100, "train", "steps", done=50) as bar:
        assert bar.line() == "train: 50 of 100 steps"
        time.now += 10
        bar.update(10)
        assert bar.line() == "train: 60 of 100 steps, 0:40 left"


def test_other_processes_say_nothing(time: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vip5"), Progress(100, "train", "steps", hidden=True) as bar:
        time.now += 20
        bar.update()
    assert caplog.messages == []


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    with Progress(3, "train", "steps", keep=True) as bar:
        bar.show("train, epoch 1", loss="2.3")
        bar.update(3)
    assert "train, epoch 1: 100%" in capsys.readouterr().err


def test_hours_are_shown_where_there_are_any() -> None:
    assert [clock(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
