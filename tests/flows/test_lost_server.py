"""A run whose Prefect server ends during it, or before it, ends with its own result."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.errors import GateError
from flows.orchestration import prefect_server
from flows.orchestration.lost_server import kept, publish_artifact, run_recorded
from tests.flows import tiny
from tests.flows.raw_server import said, sending, whole

pytestmark = [pytest.mark.prefect]
GONE = httpx.ConnectError("refused")


def lost(function: Any) -> Any:
    """What Prefect does if its server ends during a flow: it raises its own error whatever the flow returned."""
    try:
        kept(function)()
    finally:
        raise GONE


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.raiseExceptions", True)
    monkeypatch.setattr("flows.orchestration.lost_server.mark_server_lost", lambda: None)


def test_the_result_or_the_error_of_the_flow_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> int:
        raise GateError("a", "b", "c")

    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_recorded("x", lambda: lost(lambda: 5), otherwise=lambda: 0) == 5
    for function, error in ((refused, GateError), (interrupted, KeyboardInterrupt)):
        with pytest.raises(error):
            run_recorded("x", lambda function=function: lost(function), otherwise=lambda: 0)
    assert set(caplog.messages) == {"x: Prefect's server ended during the run; its page does not show the end"}


def test_a_flow_that_never_began_is_run_without_prefect() -> None:
    def never() -> int:
        raise GONE

    assert run_recorded("x", never, otherwise=lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):  # an error of the program
        run_recorded("x", kept(lambda: 1 // 0), otherwise=lambda: 0)


def test_an_artifact_costs_nothing_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    made: list[str] = []
    with (
        sending({"api/health": said(whole("200 OK", b"true"))}) as url,
        temporary_settings({PREFECT_API_URL: f"{url}/api"}),
    ):
        publish_artifact(made.append, "there")
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        publish_artifact(made.append, "gone")
    assert made == ["there"]


@pytest.mark.dvc
@pytest.mark.slow
def test_a_server_killed_in_mid_run_costs_the_record_only(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.make(tmp_path / "tiny", root)
    prepare = folder / "prepare.py"
    prepare.write_text(prepare.read_text() + "pathlib.Path('begun').touch()\nimport time\ntime.sleep(3)\n")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(root)
    (tmp_path / "home").mkdir()
    server = prefect_server.start_server(port, address)
    try:
        prefect_server.wait_for(address, 240, server)
        env = os.environ | {"PREFECT_API_URL": address, "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", "flows.retrain", "tiny"]
        run = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
        while not (folder / "begun").exists():
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        killed = time.monotonic()
        lines = run.communicate(timeout=120)[1].splitlines()
    finally:
        prefect_server.end(server, 1)
    assert (run.returncode, lines[-1]) == (0, "retrain: tiny: promoted (every check passed)")
    assert lines[-2] == "retrain: Prefect's server ended during the run; its page does not show the end"
    assert not [line for line in lines if "Traceback" in line or "Error" in line]
    assert time.monotonic() - killed < 60
    assert tiny.quality(folder) == 0.1
