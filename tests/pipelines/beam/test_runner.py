"""Beam runner: counts as data, errors from workers, refused runners, and the same table on every runner."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import InputError, ParamsError, TableError
from features.runtime.stage import Context
from features.store import tables
from pipelines import candidates, explanations, prompts, records, sample, sequences
from pipelines.beam import runner as beam
from pipelines.beam.runner import BeamParams
from tests.conftest import ROOT
from tests.pipelines import worker_box

PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


def even_or_odd(unit: int) -> dict[str, int]:
    """A unit of work for the tests."""
    if unit < 0:
        raise InputError(f"unit {unit}", "a number from 0", "fix the list")
    return {"even" if unit % 2 == 0 else "odd": 1, "sum": unit}


def test_counts_are_summed_over_units_and_the_ledger_is_removed(tmp_path: Path) -> None:
    ledger = tmp_path / "counts" / "ledger.json"
    counts = beam.run_units("numbers", list(range(10)), even_or_odd, BeamParams(), ledger)
    assert counts == {"even": 5, "odd": 5, "sum": 45}
    assert list(ledger.parent.iterdir()) == []


def test_counters_are_there_to_watch_a_job_by() -> None:
    import apache_beam
    from apache_beam.metrics import MetricsFilter

    pipeline, process = apache_beam.Pipeline(runner="FnApiRunner"), partial(beam.process_unit, "numbers", even_or_odd)
    _ = pipeline | apache_beam.Create([3, 4, -1]) | apache_beam.FlatMap(process)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("numbers"))["counters"]
    found = {counter.key.metric.name: counter.result for counter in counters}
    assert found == {"units": 2, "odd": 1, "even": 1, "sum": 7, "failed": 1}


def where(unit: int) -> dict[str, int]:
    """A unit of work that counts itself under the id of its process."""
    return {f"{os.getpid()}": 2**unit}


def test_neighbours_in_the_list_go_to_different_workers(tmp_path: Path) -> None:
    """The units of one large file are adjacent; on the same worker, they would leave the other one idle."""
    params = BeamParams(options=PROCESSES)
    counts = beam.run_units("numbers", list(range(6)), where, params, tmp_path / "ledger")
    assert sorted(counts.values()) == [0b010101, 0b101010]


def test_no_units_are_no_counts(tmp_path: Path) -> None:
    assert beam.run_units("numbers", [], even_or_odd, BeamParams(), tmp_path / "ledger") == {}


def test_an_error_of_a_unit_arrives_as_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        beam.run_units("numbers", [4, -1, -2], even_or_odd, BeamParams(), tmp_path / "ledger")
    assert str(caught.value) == "found unit -1; expected a number from 0; do: fix the list"


def test_a_runner_that_skips_or_repeats_a_unit_is_noticed() -> None:
    for done in (2, 4):
        with pytest.raises(TableError, match=f"{done} units of numbers done; expected 3, each once"):
            beam._settled("numbers", 3, {("units",): done, ("count", "even"): 2})


def test_a_runner_that_does_nothing_and_says_done_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "_run", lambda *_: None)
    with pytest.raises(TableError, match=r"no counts of numbers in .* after the runner finished"):
        beam.run_units("numbers", [1], even_or_odd, BeamParams(), tmp_path / "ledger")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"runner": "DaskRunner"}, "DaskRunner"),
        ({"runner": "apache_beam.runners.dask.dask_runner.DaskRunner"}, "DaskRunner"),
        ({"runner": "DirectRunner"}, "DirectRunner"),
        ({"options": ("--direct_running_mode=multi_threading",)}, "multi_threading"),
        ({"options": ("--direct_running_mode", "multi_threading")}, "multi_threading"),
    ],
)
def test_a_runner_that_loses_rows_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ParamsError, match=named):
        beam.run_units("numbers", [1], even_or_odd, BeamParams(**values))


class World:
    """A small synthetic dump, and the tables that the stages write from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.context(()).raw.mkdir(parents=True)
        small = sample.Params(num_users=60, items_per_cell=1, num_rare_users=2, num_rare_items=2)
        sample.run(small, self.context(()))

    def context(self, options: tuple[str, ...], runner: str = "FnApiRunner") -> Context:
        entry = {"format": "amazon2014", "reviews": [sample.REVIEWS], "metadata": [sample.METADATA]}
        shared = {"datasets": entry, "beam": {"runner": runner, "options": options}, "num_visual_tokens": 2}
        return Context(dataset="sample", root=self.root, seed=7, shared=shared)

    def run(self, options: tuple[str, ...], runner: str = "FnApiRunner") -> dict[str, bytes]:
        """Runs the stages again; returns the files of records, explanations and prompts by path."""
        context = self.context(options, runner)
        shutil.rmtree(context.table(""), ignore_errors=True)
        records.run(records.Params(readers_per_file=2, lines_per_block=100), context)
        sequences.run(sequences.Params(k_core=3), context)
        explanations.run(explanations.Params(min_reviews=1, min_score=1.0, reviews_per_unit=60), context)
        candidates.run(candidates.Params(num_negatives=9), context)
        items = tables.read_table(context.table("sequences/items"), schema.CATALOGUE)["item_id"].to_pylist()
        rows = tables.from_rows(schema.IDENTIFIERS, [{"item_id": n, "code": [n], "text": f"<{n}>"} for n in items])
        made_up = tables.Provenance(stage="identifiers", params={})
        tables.write_table(context.table("identifiers"), schema.IDENTIFIERS, rows, made_up)
        prompts.run(prompts.Params(rounds=2, num_candidates=10, rows_per_part=100), context)
        folders = [context.table(name) for name in ("records", "explanations", "sentences", "prompts")]
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(context.table(""))): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("beam"))


@pytest.fixture(scope="module")
def in_process(world: World) -> dict[str, bytes]:
    """The tables of the default runner. Every table has rows; tables written by several units have several parts."""
    made = world.run(())
    parts = [name for name in made if name.endswith(".parquet")]
    for table in ("records/reviews", "explanations", "sentences", "prompts/train/language", "prompts/train/direct"):
        assert sum(name.startswith(f"{table}/") for name in parts) > 2, table
    assert sum(name.endswith(tables.MANIFEST) for name in made) == 3 + 2 + 10
    return made


def test_every_reject_reason_has_a_count_in_the_manifest(world: World, in_process: dict[str, bytes]) -> None:
    folder = world.context(()).table("records/rejects")
    accounts = tables.read_manifest(folder)["notes"]["files"]
    counted: dict[str, int] = {}
    for account in accounts.values():
        for name, count in account.items():
            if name.startswith("rejected:"):
                reason = name.removeprefix("rejected:")
                counted[reason] = counted.get(reason, 0) + count
    reasons = tables.read_table(folder, schema.REJECTS)["reason"].to_pylist()
    assert len(counted) > 8
    assert counted == {reason: reasons.count(reason) for reason in set(reasons)}


@pytest.mark.slow
def test_several_worker_processes_write_the_same_bytes(world: World, in_process: dict[str, bytes]) -> None:
    assert world.run(PROCESSES) == in_process


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and its extra `worker`."""
    folder = tmp_path_factory.mktemp("box")
    return worker_box.make_environment(folder / "venv", worker_box.build_wheel(ROOT, folder / "wheel"))


@pytest.fixture(scope="module")
def portable(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Beam options for a job service whose workers run in that environment."""
    folder = tmp_path_factory.mktemp("servers")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    service = ("-m", "apache_beam.runners.portability.local_job_service_main", "--port_file", str(folder / "port"))
    pool = ("-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}")
    with (
        worker_box.serving(box, *service, "--staging_dir", str(folder / "staging"), cwd=folder / "service"),
        worker_box.serving(box, *pool, cwd=folder / "pool"),
    ):
        job = worker_box.port_in(folder / "port")
        deadline = time.monotonic() + 60
        while b"Started worker pool" not in (folder / "pool" / "log.txt").read_bytes():
            assert time.monotonic() < deadline, (folder / "pool" / "log.txt").read_text()
            time.sleep(0.05)
        yield (
            f"--job_endpoint=localhost:{job}", "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{port}", "--job_server_timeout=120",
        )  # fmt: skip


ASK = """\
import importlib.util, json, sys
import pipelines.prompting.render_unit
found = [name for name in sys.argv[1].split() if importlib.util.find_spec(name)]
print(json.dumps([pipelines.prompting.render_unit.__file__, found]))
"""


@pytest.mark.portable
def test_the_worker_environment_has_only_what_workers_need(box: Path, tmp_path: Path) -> None:
    absent = "torch transformers prefect dvc open_clip scipy jinja2 duckdb pytest fastapi sqlalchemy"
    done = subprocess.run([box, "-I", "-c", ASK, absent], cwd=tmp_path, capture_output=True, text=True, check=True)
    place, found = json.loads(done.stdout)
    assert Path(place).is_relative_to(box.parents[1])
    assert found == []


@pytest.mark.slow
@pytest.mark.portable
def test_workers_in_another_environment_write_the_same_bytes(
    world: World, in_process: dict[str, bytes], portable: tuple[str, ...]
) -> None:
    assert world.run(portable, "PortableRunner") == in_process


@pytest.mark.slow
@pytest.mark.portable
def test_a_units_error_arrives_from_another_environment(portable: tuple[str, ...], world: World) -> None:
    context = world.context(portable, "PortableRunner")
    folder = context.table("candidates")
    rows = tables.read_table(folder, schema.CANDIDATES).slice(1)
    tables.write_table(folder, schema.CANDIDATES, rows, tables.Provenance(stage="candidates", params={}))
    with pytest.raises(TableError, match="no candidates of user 1 in test"):
        prompts.run(prompts.Params(num_candidates=10), context)
