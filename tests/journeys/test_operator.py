"""The operator at the server: brings data in, serves by a schedule, triggers runs, stops."""

import gzip
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.journeys.person import Person, Said

DUMP = {"Gift_Cards_5.json.gz": 1_500_000, "meta_Gift_Cards.json.gz": 1_000_000}
NOISE = ("Traceback", "Warning", "WARNING", "Error:")
DEAD = "http://127.0.0.1:9"
PROXIES = {
    name: value
    for upper, value in (("HTTP_PROXY", DEAD), ("HTTPS_PROXY", DEAD), ("ALL_PROXY", "socks5://127.0.0.1:9"))
    for name in (upper, upper.lower())
}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A folder with a dump of 2.5 MB under the names that params.yaml has for gift_cards."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name, size in DUMP.items():
        (folder / name).write_bytes(gzip.compress(os.urandom(size), 0))
    return folder


def arrived(person: Person, dump: Path) -> bool:
    return all(
        (person.folder / "data/raw/gift_cards" / name).read_bytes() == (dump / name).read_bytes() for name in DUMP
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def in_environment(person: Person, more: dict[str, str]) -> Person:
    return Person(person.folder, person.home, more)


def one_line(said: Said, *, holding: str, within: float = 2) -> None:
    assert len(said.lines) == 1, said.text
    assert holding in said.text
    assert said.seconds < within


@contextmanager
def mirror(person: Person, dump: Path) -> Iterator[None]:
    """A web server on loopback that has the dump, and params.yaml that fetches it there."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(dump))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        path = person.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        address = f"http://127.0.0.1:{site.server_address[1]}"
        params["datasets"]["gift_cards"]["urls"] = {name: f"{address}/{name}" for name in DUMP}
        params["ingest"]["private_hosts"] = ["127.0.0.1"]
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        yield
        site.shutdown()


def ask(port: str, what: str, **body: Any) -> list[dict[str, Any]]:
    """A question to the Prefect server's REST API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/{what}/filter", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


def runs(port: str) -> list[tuple[str, str, bool]]:
    """Name, state and "by the schedule?" of every run that is not in the future."""
    found = ask(port, "flow_runs", sort="EXPECTED_START_TIME_ASC")
    return [
        (run["name"], run["state_name"], run["auto_scheduled"]) for run in found if run["state_name"] != "Scheduled"
    ]


def change(path: Path, name: str, value: Any) -> None:
    """Gives a parameter another value, as an operator does in an editor."""
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {name: value}, sort_keys=False))


def until(seen: Callable[[], object], *, within: float = 40) -> None:
    deadline = time.monotonic() + within
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def left_behind(folder: Path) -> list[str]:
    """The processes that still work in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_ingest_takes_three_seconds_in_any_environment(clone: Person, dump: Path) -> None:
    for more in ({}, PROXIES, {"PREFECT_API_URL": f"{DEAD}/api"}, {"PREFECT_API_URL": f"{DEAD}/api", **PROXIES}):
        person = in_environment(clone, more)
        said = person.types(".venv/bin/python -m flows.ingest NAME --from FOLDER", NAME="gift_cards", FOLDER=str(dump))
        assert said.seconds < 3
        assert arrived(clone, dump)
        assert len(said.lines) == (2 if "PREFECT_API_URL" in more else 1), said.text
        assert ("continuing without recording the run" in said.lines[0]) == ("PREFECT_API_URL" in more)
    (dump / "Gift_Cards_5.json.gz").write_bytes(gzip.compress(b"newer reviews"))
    with mirror(clone, dump):
        said = in_environment(clone, PROXIES).types(".venv/bin/python -m flows.ingest NAME", NAME="gift_cards")
    assert said.seconds < 3
    assert arrived(clone, dump)
    assert not (clone.folder / ".prefect").exists()


def test_what_is_wrong_is_one_line_at_once_and_starts_nothing(clone: Person) -> None:
    serve = '.venv/bin/python -m flows.serve NAME --cron "CRON" --timezone ZONE'
    one_line(clone.types(serve, NAME="sample", CRON="weekly", ZONE="UTC", ends=2), holding="found schedule 'weekly'")
    one_line(clone.types(serve, NAME="sample", CRON="0 0 31 2 *", ZONE="UTC", ends=2), holding="never due")
    said = clone.types(serve, NAME="sample", CRON="0 3 * * 1", ZONE="Europe/Zuerich", ends=2)
    one_line(said, holding="found time zone 'Europe/Zuerich'; expected Europe/Zurich")
    said = clone.types(serve, NAME="gift_card", CRON="0 3 * * 1", ZONE="UTC", ends=2)
    one_line(said, holding="found profile 'gift_card'; expected gift_cards")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = clone.types('.venv/bin/python -m flows.serve --cron "0 3 * * 1" --port PORT', PORT=port, ends=8)
    one_line(said, holding=f"found port {port}")
    assert not (clone.folder / ".prefect").exists()
    (clone.folder / ".prefect").write_text("a file where a folder should be")
    said = clone.types('.venv/bin/python -m flows.serve --cron "0 3 * * 1"', ends=None)
    assert said.code in {3, 8}  # 8 where somebody on this machine has port 4200
    assert len(said.lines) == 1
    one_line(
        clone.types(".venv/bin/python -m flows.trigger retrain NAME", NAME="sample", ends=8), holding="flows.serve"
    )


def test_served_runs_complete_and_every_signal_ends_all(after_demo: Callable[[], Person], dump: Path) -> None:
    person = after_demo()
    by_trigger(in_environment(person, PROXIES), dump)
    by_schedule(person, dump)


def by_trigger(person: Person, dump: Path) -> None:
    """With proxies that lead nowhere: triggered runs complete, and Ctrl-C at a terminal ends everything."""
    port = free_port()
    with (
        mirror(person, dump),
        person.starts(
            '.venv/bin/python -m flows.serve NAME --cron "0 3 * * 1" --port PORT', NAME="sample gift_cards", PORT=port
        ) as serving,
    ):
        serving.reads(r"retrain-gift_cards: by .* next on Monday, ", within=90)
        serving.reads("ready; the page is", within=5)
        person.types(".venv/bin/python -m flows.trigger retrain NAME", NAME="sample", within=60)
        person.types(".venv/bin/python -m flows.trigger ingest NAME --watch", NAME="gift_cards", within=60)
        serving.reads(r"ingest-gift_cards: ended after \d+ s: gift_cards in .* 2 new or changed", within=5)
        assert arrived(person, dump)
        serving.reads(r"retrain-sample: ended after \d+ s: (promoted|not promoted).* \(.+\)", within=90)
        until(lambda: ("retrain sample", "Completed", False) in runs(port), within=15)
        assert serving.presses_ctrl_c() == 0
    assert left_behind(person.folder) == []
    ends_well("".join(serving.printed))


def by_schedule(person: Person, dump: Path) -> None:
    """With no configuration: a scheduled run, its words in terminal and artifact; SIGTERM in the midst of another."""
    port = free_port()
    with person.starts('.venv/bin/python -m flows.serve --cron "* * * * *" --port PORT', PORT=port) as serving:
        serving.reads(f"ready; the page is http://127.0.0.1:{port}", within=90)
        second = person.types('.venv/bin/python -m flows.serve --cron "0 3 * * 1"', ends=8)
        one_line(second, holding="found flows.serve at work in this folder already (process")
        person.types(".venv/bin/python -m flows.trigger ingest NAME --watch", NAME="sample", within=60)
        person.types(".venv/bin/python -m flows.ingest NAME --from FOLDER", NAME="gift_cards", FOLDER=str(dump))
        serving.reads(r"retrain-sample: began at \S+ \(due at ", within=75)
        serving.reads(r"retrain-sample: ended after \d+ s: (not promoted|nothing new).* \(.+\)", within=90)
        until(lambda: ("retrain sample", "Completed", True) in runs(port), within=15)
        found = runs(port)
        verdict = json.loads((person.folder / "metrics/sample/evaluate.json").read_text()).get("verdict", [])
        result = ask(port, "artifacts", artifacts={"key": {"any_": ["sample-result"]}})[0]["data"]
        change(person.folder / "params.yaml", "seed", 7)
        printed_before = len(serving.printed)
        person.types(".venv/bin/python -m flows.trigger retrain NAME", NAME="sample", within=60)
        until(lambda: [line for line in left_behind(person.folder) if "pipelines." in line])
        assert serving.stops(signal.SIGTERM) == 0
    assert left_behind(person.folder) == []
    assert ("ingest sample", "Completed", False) in found
    assert ("ingest gift_cards", "Completed", False) in found
    assert result.startswith("\n\n".join([*verdict, "## sample: "]))
    text = "".join(serving.printed)
    assert [line for line in verdict if f"retrain-sample: {line}" not in text] == []
    last = "".join(serving.printed[printed_before:])
    assert re.search(r"retrain-sample: ended after \d+ s: stopped from outside; the champion stays\n", last)
    ends_well(text)
    person.types(".venv/bin/python -m flows.trigger retrain NAME", NAME="sample", ends=8)


def ends_well(text: str) -> None:
    assert text.splitlines()[-1] == "serve: stopped"
    assert [word for word in NOISE if word in text] == []
