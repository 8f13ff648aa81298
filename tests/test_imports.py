import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.params import load_yaml
from flows import graph

ROOT = Path(__file__).parents[1]
COMMANDS = [
    *graph.modules(load_yaml(ROOT / "dvc.yaml")).values(),
    "flows.ingest",
    "flows.profile",
    "flows.graph",
    "flows.docs",
    "modeling.summary",
]
HEAVY = ["torch", "transformers", "apache_beam", "prefect", "open_clip", "polars", "dvc", "grimp", "torchvision"]
ASK_FOR_HELP = """\
import contextlib, importlib, io, json, sys, time
found = {}
for name in sys.argv[1].split():
    before = time.perf_counter()
    module, out, code = importlib.import_module(name), io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            module.main(["--help"])
        except SystemExit as stop:
            code = stop.code
    found[name] = [code, "usage:" in out.getvalue(), time.perf_counter() - before]
print(json.dumps([found, sorted(set(sys.argv[2].split()) & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def answers() -> tuple[dict[str, tuple[int, bool, float]], list[str]]:
    """By command: exit code, whether it explained itself, seconds; and the heavy modules that came in."""
    command = [sys.executable, "-c", ASK_FOR_HELP, " ".join(COMMANDS), " ".join(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found, heavy = json.loads(done.stdout)
    return found, heavy


def test_every_command_explains_itself(answers: tuple[dict[str, tuple[int, bool, float]], list[str]]) -> None:
    assert {name: tuple(answer[:2]) for name, answer in answers[0].items()} == dict.fromkeys(COMMANDS, (0, True))


def test_help_leaves_the_heavy_libraries_alone(answers: tuple[dict[str, tuple[int, bool, float]], list[str]]) -> None:
    assert answers[1] == []


def test_help_of_the_slowest_command_takes_under_a_second_and_a_half(
    answers: tuple[dict[str, tuple[int, bool, float]], list[str]],
) -> None:
    slowest = max(answers[0], key=lambda name: answers[0][name][2])
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", slowest, "--help"], check=True, capture_output=True, cwd=ROOT)
    assert time.monotonic() - started < 1.5


def test_importing_any_module_prints_and_logs_nothing() -> None:
    files = [path for package in graph.PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    light = [
        name
        for name in names
        if name not in {"flows.ingest_flow", "pipelines.beam_worker"} and not name.startswith("modeling.")
    ]
    code = "import importlib, sys\nfor name in sys.argv[1].split(): importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(light)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
