"""Child processes are streamed line by line and stopped with their parent."""

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.execution import subprocesses


def test_output_is_streamed_line_by_line(tmp_path: Path) -> None:
    said: list[str] = []
    assert (
        subprocesses.stream([sys.executable, "-c", "print('one'); print(); print('two')"], tmp_path, said.append) == 0
    )
    assert said == ["one", "two"]


def test_what_stops_us_stops_the_command_and_its_children(tmp_path: Path) -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    pids: list[int] = []

    def listen(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subprocesses.stream([sys.executable, "-c", script], tmp_path, listen)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pids[0]}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pids[0]}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("ends_itself", [True, False])
def test_an_attached_command_ends_in_order_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_itself: bool
) -> None:
    monkeypatch.setattr(subprocesses, "_ATTACHED_SECONDS", 5.0 if ends_itself else 0.1)
    script = (
        "import signal, sys, pathlib, time\n"
        "signal.signal(signal.SIGINT, lambda *_: (pathlib.Path('ended').write_text('in order'), sys.exit(0)))\n"
        "pathlib.Path('started').touch()\n"
        f"time.sleep({0.5 if ends_itself else 60})\n"
        "pathlib.Path('ended').write_text('by itself')\n"
    )

    main = threading.get_ident()

    def interrupt() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        subprocesses.run_attached([sys.executable, "-c", script], tmp_path)
    thread.join()
    assert (tmp_path / "ended").read_text() == ("by itself" if ends_itself else "in order")


def test_an_attached_command_returns_its_exit_code(tmp_path: Path) -> None:
    assert subprocesses.run_attached([sys.executable, "-c", "raise SystemExit(7)"], tmp_path) == 7
