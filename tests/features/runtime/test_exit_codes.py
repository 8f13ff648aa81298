"""A command ends in one line with the code of its error."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from features.errors import BusyError, InputError
from features.runtime import stage
from features.runtime.exit_codes import exit_code_of


@dataclass(frozen=True, kw_only=True)
class Params:
    pass


def raising(error: BaseException) -> Any:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BusyError("a", "b", "c"), 8, "x: found a; expected b; do: c"),
        (KeyboardInterrupt(), 130, "x: interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device"),
        (OSError(errno.EDQUOT, "Quota exceeded", "data/x"), 3, "found data/x that cannot be written"),
    ],
)
def test_each_error_is_one_line(caplog: pytest.LogCaptureFixture, error: BaseException, code: int, line: str) -> None:
    assert exit_code_of("x", raising(error)) == code
    assert len(caplog.messages) == 1
    assert line in caplog.messages[0]


def test_other_errors_keep_their_traceback() -> None:
    for error in (ValueError("bug"), BrokenPipeError(errno.EPIPE, "pipe")):
        with pytest.raises(type(error)):
            exit_code_of("x", raising(error))
    assert exit_code_of("x", lambda: 5) == 5
    assert InputError.exit_code == 3


def test_an_interrupted_stage_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("dataset: d\nseed: 1\nx: {}\n")

    def run(_own: Any, _context: stage.Context) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 1

    assert stage.execute("x", Params, (), run, path) == 130
    assert caplog.messages == ["x: interrupted"]


def test_commands_end_by_this_function(root: Path) -> None:
    own = {"setup"}  # runs without any package
    commands = [path for path in (root / "flows").glob("*.py") if "__main__" in path.read_text()]
    assert len(commands) > 10
    for path in commands:
        if path.stem not in own:
            assert path.read_text().endswith(f'(exit_code_of("{path.stem}", main))\n'), path.name


def test_sigint_ends_a_command_with_130(root: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from features.runtime.exit_codes import exit_code_of\n"
        "sys.exit(exit_code_of('x', lambda: os.kill(os.getpid(), signal.SIGINT) or signal.pause() or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "x: interrupted\n")
