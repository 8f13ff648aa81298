"""SIGKILL at random points of three stages: no half-written table is readable, and the next run is unaffected."""

import importlib
import shutil
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from features import schema
from features.errors import TableError
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store import tables
from tests.conftest import ROOT
from tests.pipelines.killed_stages import OTHER_SETTINGS, SETTINGS, make_dataset, start, write_params

KILLS = 4
"""Number of kills that must hit the running stage, per stage."""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return make_dataset(tmp_path_factory.mktemp("killed"), ROOT)


def written(name: str, context: Context) -> list[str]:
    """The tables of a stage, such as records/reviews."""
    writes = importlib.import_module(f"pipelines.{name}").WRITES
    return [path.removeprefix("data/${dataset}/") for path in writes]


def files(name: str, context: Context) -> dict[str, bytes]:
    """The files of all tables of a stage, hidden ones included, by path."""
    folders = {context.table(table).parent for table in written(name, context)}
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(context.root)): path.read_bytes() for path in found}


def is_writing(name: str, context: Context) -> bool:
    """Whether a table of the stage is being staged."""
    return any(tables.staging_of(context.table(table)).is_dir() for table in written(name, context))


def begin(name: str, context: Context) -> ForkServerProcess:
    """A process that runs the stage and has begun to write a table."""
    process = start(name, context.root)
    while process.is_alive() and not is_writing(name, context):
        time.sleep(0.002)
    return process


def complete(name: str, context: Context) -> float:
    """Runs a stage in a separate process; returns the seconds from its first staged table to its end."""
    process = begin(name, context)
    started = time.monotonic()
    process.join(120)
    assert process.exitcode == 0, (context.root / "log.txt").read_text()
    return time.monotonic() - started


def readable(name: str, context: Context) -> dict[str, list[object]]:
    """The rows of the tables of a stage that can be read."""
    found: dict[str, list[object]] = {}
    for table in written(name, context):
        declared = schema.by_name(table)
        try:
            found[table] = tables.read_table(context.table(table), declared).to_pylist()
        except TableError as error:
            if "no table" not in str(error) and "two runs" not in str(error):
                raise
    return found


def put_back(name: str, context: Context, kept: dict[str, bytes]) -> None:
    """Restores the files of a stage's tables."""
    for folder in {context.table(table).parent for table in written(name, context)}:
        shutil.rmtree(folder)
    for path, data in kept.items():
        (context.root / path).parent.mkdir(parents=True, exist_ok=True)
        (context.root / path).write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["records", "sequences", "prompts"])
def test_a_run_after_a_kill_gives_the_undisturbed_bytes(name: str, context: Context) -> None:
    root: Path = context.root
    write_params(root, ROOT, SETTINGS | {name: SETTINGS[name] | OTHER_SETTINGS[name]})
    complete(name, context)
    before, old = files(name, context), readable(name, context)
    write_params(root, ROOT, SETTINGS)
    seconds = complete(name, context)
    undisturbed, new = files(name, context), readable(name, context)
    assert list(old) == list(new) == written(name, context)
    assert old != new
    hits, generator = 0, rng(2022, "kills", name)
    for _ in range(3 * KILLS):
        put_back(name, context, before)
        process = begin(name, context)
        process.join(seconds * generator.uniform(0.0, 0.9))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            hits += 1
            for table, rows in readable(name, context).items():
                assert rows in (old[table], new[table]), f"{table} is neither the old nor the new one"
            complete(name, context)
            assert files(name, context) == undisturbed
        if hits == KILLS:
            break
    assert hits == KILLS
