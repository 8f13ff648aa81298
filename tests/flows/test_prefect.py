"""Tests that need Prefect's server, in one file that shares one server."""

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import BusyError, GateError, InputError
from features.runtime.params import load_yaml
from flows.orchestration import prefect_env, prefect_server
from modeling.serving import promoted_model
from tests.flows import tiny
from tests.flows.test_ingest import PARAMS, source  # noqa: F401 - a fixture
from tests.flows.web import Page, serving

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=240):
        yield


def artifacts() -> dict[str, str]:
    """Key to type of every artifact on the server."""
    from prefect import get_client

    async def read() -> list[Any]:
        async with get_client() as client:
            return list(await client.read_artifacts())

    return {found.key: found.type for found in asyncio.run(read()) if found.key}


def artifact_data(key: str) -> str:
    """What the newest artifact of this key holds."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    async def read() -> Any:
        async with get_client() as client:
            newest = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
            return (await client.read_artifacts(artifact_filter=newest, sort=ArtifactSort.CREATED_DESC))[0].data

    return str(asyncio.run(read()))


@pytest.mark.usefixtures("server")
def test_the_flow_brings_a_dump_and_then_finds_it_unchanged(source: Path, workspace: Path) -> None:  # noqa: F811
    from flows.download.prefect_flow import ingest as flow

    changed, entries = flow("shirts", source, PARAMS)
    assert changed == [entry.name for entry in entries] == ["photos/photos-00000.tar", "r.json.gz"]
    assert flow("shirts", source, PARAMS) == ([], entries)
    (source / "r.json.gz").unlink()
    with pytest.raises(InputError, match=r"no file r\.json\.gz"):
        flow("shirts", source, PARAMS)
    assert (workspace / "data/raw/shirts/r.json.gz").read_bytes() == b"reviews"


@pytest.mark.usefixtures("server")
def test_the_flow_downloads_with_the_repository_parameters(workspace: Path) -> None:
    from flows.download.prefect_flow import ingest as flow

    with serving() as site:
        site.pages["r.json"] = Page(b"reviews", etag='"1"', fault="cut", faults=1)
        entry = {
            "format": "amazon2014",
            "reviews": ["r.json"],
            "metadata": [],
            "urls": {"r.json": site.address("r.json")},
        }
        own = {"datasets": {"shirts": entry}, "tokenizers": {},
               "ingest": {"min_free_disk_bytes": 0, "initial_backoff_seconds": 0.01,
                          "private_hosts": ["127.0.0.1"]}}  # fmt: skip
        Path("params.yaml").write_text(yaml.safe_dump(own))
        assert flow("shirts")[0] == ["r.json"]
        assert flow("shirts")[0] == []


@pytest.mark.dvc
@pytest.mark.usefixtures("server")
def test_a_retrain_is_recorded_on_the_server(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.retraining.config import prepare
    from flows.retraining.prefect_flow import overtaken
    from flows.retraining.prefect_flow import retrain as flow

    monkeypatch.chdir(tiny.make(tmp_path / "tiny", root))
    assert flow("tiny").decision == "promote"
    champion = promoted_model.current("tiny")
    assert champion is not None
    assert artifacts() == {
        "tiny-run": "markdown", "tiny-result": "markdown", "tiny-gate": "table", "tiny-plot": "image"
    } | {key: kind for key, kind in artifacts().items() if not key.startswith("tiny")}  # fmt: skip
    tiny.set_params(Path(), 0.9, leaks=True)
    with pytest.raises(GateError, match="the champion stays"):
        flow("tiny")
    assert promoted_model.current("tiny") == champion
    run = prepare("tiny", run_id="x")
    assert overtaken(run, datetime.now(UTC) - timedelta(days=7))
    assert not overtaken(run, datetime.now(UTC) + timedelta(seconds=1))
    assert not overtaken(run, None)


def test_a_server_that_is_down_costs_the_record_and_not_the_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert not prefect_env.use_server("retrain")
    assert "continuing without recording the run" in caplog.text
    with pytest.raises(BusyError, match="no Prefect server at"):
        prefect_server.wait_for("http://127.0.0.1:9/api", 0.05)
    monkeypatch.delenv("PREFECT_API_URL")
    caplog.clear()
    assert not prefect_env.use_server("retrain")
    assert caplog.text == ""


def test_deployments_say_what_prefect_yaml_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.scheduling.deployments import deployments

    monkeypatch.chdir(root)
    written = load_yaml(root / "prefect.yaml")["deployments"]
    made = deployments(["sample"], "0 3 * * 1")
    for own, other in zip(made, written, strict=True):
        assert own.name == other["name"]
        assert own.parameters == other["parameters"]
        assert own.concurrency_options.collision_strategy == other["concurrency_limit"]["collision_strategy"]
        path, _, function = other["entrypoint"].partition(":")
        assert f"def {function}(" in (root / path).read_text()
    assert [schedule.schedule.cron for schedule in made[1].schedules] == [written[1]["schedules"][0]["cron"]]


@pytest.mark.dvc
@pytest.mark.usefixtures("server")
def test_the_verdict_heads_the_result_artifact(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow

    from flows.retraining.config import prepare
    from flows.retraining.prefect_flow import publish_summary

    monkeypatch.chdir(tiny.make(tmp_path / "tiny", root))
    run = prepare("tiny", run_id="x")
    flow(lambda: publish_summary(run, ["keep", "not better", "Champion: `none`"], ["VIP5 finds it.", "Leaks: none."]))()
    assert artifact_data("tiny-result") == (
        "VIP5 finds it.\n\nLeaks: none.\n\n## tiny: keep\n\nnot better\n\nChampion: `none`"
    )
