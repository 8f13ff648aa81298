"""Child processes are streamed line by line and stopped with their parent."""

import sys
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
