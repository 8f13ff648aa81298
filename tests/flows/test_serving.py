"""Schedules, proxies, profiles, child processes and run messages, without Prefect."""

import base64
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from features.errors import BusyError, CommandError, InputError, ParamsError
from features.runtime.logs import formatter
from flows import serve
from flows.execution.subprocesses import environment
from flows.execution.workspace_lock import server_lock
from flows.orchestration import prefect_env, prefect_server, run_messages
from flows.retraining import step_timer
from flows.scheduling.schedule import next_due
from tests.flows.raw_server import said, sending, whole

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies and without anything of Prefect."""
    for name in list(os.environ):
        if name.startswith("PREFECT_") or name.lower().endswith("_proxy") or name == prefect_env.SAVED_NO_PROXY:
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return monkeypatch


@pytest.mark.parametrize(
    ("cron", "zone", "message"),
    [
        ("weekly", "UTC", "found schedule 'weekly'; expected minute, hour"),
        ("61 * * * *", "UTC", "found schedule '61"),
        ("H * * * *", "UTC", "found schedule 'H"),
        ("0 0 31 2 *", "UTC", "which is never due"),
        ("0 3 * * 1", "Europe/Zuerich", r"expected Europe/Zurich.* \(the nearest known\)"),
        ("0 3 * * 1", "europe/zurich", "expected Europe/Zurich"),
        ("0 3 * * 1", "../etc/passwd", "found time zone"),
    ],
)
def test_a_wrong_schedule_is_one_line(cron: str, zone: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        next_due(cron, zone)


def test_the_next_moment_is_that_of_the_zone_and_prefect_agrees() -> None:
    from prefect.client.schemas.schedules import CronSchedule

    assert next_due("0 3 * * 1", "UTC", NOON).isoformat() == "2026-11-30T03:00:00+00:00"
    for cron in ("* * * * *", "@weekly", "0 3 * * mon#1", "*/5 8-18 * * 1-5"):
        assert CronSchedule(cron=cron, timezone="Europe/Zurich").cron == cron
        assert next_due(cron, "Europe/Zurich") > datetime.now(UTC)


def test_an_invalid_schedule_is_reported_without_prefect(root: Path) -> None:
    code = (
        "import sys; from flows import serve; code = serve.main(['--cron', 'weekly']); "
        "print(code, 'prefect' in sys.modules, 'numpy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["2", "False", "False"]


def test_names_are_checked_and_taken_once(workspace: Path) -> None:
    Path("params.yaml").write_text("dataset: toys\ndatasets: {toys: {}, shirts: {}}\n")
    Path("profiles").mkdir()
    Path("profiles/shirts.yaml").write_text("dataset: shirts\n")
    assert serve.checked_names([]) == ["toys"]
    assert serve.checked_names(["shirts", "toys", "shirts"]) == ["shirts", "toys"]
    with pytest.raises(ParamsError, match="found profile 'shirt'; expected shirts"):
        serve.checked_names(["shirt"])


def test_prefect_on_loopback_has_no_proxy_but_commands_do(clean: pytest.MonkeyPatch) -> None:
    os.environ |= {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "intranet.example"}
    prefect_env.bypass_loopback_proxies("http://localhost:4200/api")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "*"
    assert environment()["NO_PROXY"] == environment()["no_proxy"] == "intranet.example,localhost,127.0.0.1,::1"
    import httpx

    httpx.Client().close()  # would end at the SOCKS proxy
    prefect_env.bypass_loopback_proxies("https://prefect.example/api")
    assert os.environ["no_proxy"] == "intranet.example,localhost,127.0.0.1,::1"


def test_a_server_elsewhere_is_reached_as_the_operator_wants(clean: pytest.MonkeyPatch) -> None:
    os.environ |= {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": "intranet.example"}
    prefect_env.bypass_loopback_proxies("https://prefect.example/api")
    assert os.environ["NO_PROXY"] == "intranet.example,localhost,127.0.0.1,::1"


def test_the_profile_of_flows_serve_does_not_count_as_configured(clean: pytest.MonkeyPatch, workspace: Path) -> None:
    assert prefect_env.configured_address() == (None, False)
    Path(".prefect").mkdir()
    text = 'active = "{0}"\n[profiles.{0}]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    Path(".prefect/profiles.toml").write_text(text.format(prefect_env.SERVED))
    assert prefect_env.configured_address() == ("http://127.0.0.1:9/api", False)
    assert prefect_env.find_server() == (None, False)
    Path(".prefect/profiles.toml").write_text(text.format("mine"))
    assert prefect_env.find_server() == ("http://127.0.0.1:9/api", False)
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:10/api"
    assert prefect_env.configured_address() == ("http://127.0.0.1:10/api", True)


def test_a_second_serve_and_a_folder_without_rights_are_one_line(workspace: Path, clean: pytest.MonkeyPatch) -> None:
    with (
        server_lock(),
        pytest.raises(BusyError, match=rf"already \(process {os.getpid()}\)"),
        server_lock(),
    ):
        pass
    with server_lock():
        pass
    Path(".prefect").write_text("a file")
    with pytest.raises(InputError, match=r"a folder \.prefect that cannot be written"):
        prefect_server.check_home()
    with pytest.raises(ParamsError, match="--port 70000"):
        prefect_server.check_port(70000)


def test_a_child_that_ends_by_itself_is_reported_with_its_output(root: Path, tmp_path: Path) -> None:
    child = prefect_server.start("the server", ["nosuchmodule"], {}, tmp_path / "log")
    child.process.wait(20)
    with pytest.raises(CommandError, match=r"the server that ended by itself with exit code 1 .*nosuchmodule"):
        child.check()
    prefect_server.end(child, 1)


def test_a_child_ends_when_its_starter_is_gone(root: Path) -> None:
    words = [sys.executable, "-m", "flows.orchestration.guarded", "0", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as child:  # fmt: skip
        time.sleep(0.5)
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(20) == -15


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (whole("200 OK", b"true"), "up"),
        (whole("200 OK", b"<html>another</html>"), "foreign"),
        (whole("404 Not Found", b""), "foreign"),
        (b"SSH-2.0-OpenSSH_9\r\n", "foreign"),
        (whole("503 Starting", b""), "down"),
        (b"", "down"),
    ],
    ids=["Prefect", "a page", "no such path", "not HTTP", "starting", "silent"],
)
def test_a_server_of_another_kind_is_told_from_prefects(clean: pytest.MonkeyPatch, answer: bytes, state: str) -> None:
    with sending({"api/health": said(answer)}) as url:
        assert prefect_env.server_state(f"{url}/api") == state
        if state == "foreign":
            with pytest.raises(BusyError, match="that is not Prefect's"):
                prefect_server.wait_for(f"{url}/api", 30)
    for address in (f"{url}/api", "http://[bad", "http://127.0.0.1:0/api", "no address"):
        assert prefect_env.server_state(address, 0.5) == "down"


def test_a_password_in_the_address_is_sent_and_never_shown(
    clean: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[bytes] = []

    def answer(request: bytes) -> Iterator[bytes]:
        heads.append(request)
        yield whole("200 OK", b"true")

    with sending({"api/health": answer}) as url:
        assert prefect_env.is_server_up(f"{url.replace('//', '//me:s%40cret@')}/api")
    assert base64.b64encode(b"me:s@cret") in heads[0]
    os.environ["PREFECT_API_URL"] = "http://me:secret@127.0.0.1:9/api"
    assert not prefect_env.use_server("retrain")
    shown = [formatter().format(record) for record in caplog.records]
    assert shown == [
        "retrain: no Prefect server answers at http://***@127.0.0.1:9/api; continuing without recording the run"
    ]
    prefect_env.prepare()
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:9/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "me:secret"


def flow_run(**more: Any) -> SimpleNamespace:
    about = {"deployment_id": "x", "auto_scheduled": True, "expected_start_time": NOON, "id": UUID(int=255)}
    return SimpleNamespace(**about | more)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What was written; the log of this process is as before afterwards."""
    log = logging.getLogger("vip5")
    before = log.handlers, log.propagate, log.level
    yield capsys
    log.handlers, log.propagate = before[:2]
    log.setLevel(before[2])


def test_a_served_run_logs_its_start_end_and_verdict(terminal: Any) -> None:
    page: list[str] = []
    with run_messages.report_run("retrain-toys", flow_run(), page.append, stopped="-") as run:
        run.log("a line of DVC")
        run.lines = ["the champion stays (not better)", "VIP5 finds the next item for 26 of 100 users."]
    first, second, third = terminal.readouterr().err.splitlines()
    assert first.startswith("retrain-toys: began at ")
    assert first.endswith(", run 0000000000ff)")
    assert second == "retrain-toys: ended after 0 s: the champion stays (not better)"
    assert third == "retrain-toys: VIP5 finds the next item for 26 of 100 users."
    assert page == ["a line of DVC"]


def test_a_failed_served_run_logs_the_reason_and_its_last_lines(terminal: Any) -> None:
    def run() -> None:
        with run_messages.report_run("retrain-toys", flow_run(auto_scheduled=False), str, stopped="-") as run:
            run.log("records: found no dump")
            run.log_detail("a row of the table")
            raise CommandError("dvc repro with exit code 255", "0", "fix it")

    with pytest.raises(CommandError):
        run()
    lines = terminal.readouterr().err.splitlines()
    assert "(triggered, run" in lines[0]
    assert lines[1:] == [
        "retrain-toys: | records: found no dump",
        "retrain-toys: ended after 0 s: failed: found dvc repro with exit code 255; expected 0; do: fix it",
    ]


def test_a_served_run_that_is_stopped_says_so(terminal: Any) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        run_messages.report_run("retrain-toys", flow_run(), print, stopped="the champion stays"),
    ):
        raise KeyboardInterrupt
    assert (
        terminal.readouterr().err.splitlines()[-1]
        == "retrain-toys: ended after 0 s: stopped from outside; the champion stays"
    )


def test_a_run_from_the_command_line_only_logs_its_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vip5")
    with run_messages.report_run("retrain-toys", flow_run(deployment_id=None), str, stopped="-") as run:
        run.log("a line of DVC")
    assert caplog.messages == ["a line of DVC"]


def test_the_verdict_is_read_where_there_is_one(tmp_path: Path) -> None:
    from features.runtime.stage import Places

    run: Any = SimpleNamespace(places=Places(dataset="toys", root=tmp_path))
    assert step_timer.verdict_lines(run) == []
    path = run.places.metrics("evaluate.json")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert step_timer.verdict_lines(run) == []
    path.write_text('{"verdict": ["It finds.", "Leaks: none."]}')
    assert step_timer.verdict_lines(run) == ["It finds.", "Leaks: none."]
