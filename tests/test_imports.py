import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from features.runtime.params import load_yaml
from flows.pipeline import stage_graph

ROOT = Path(__file__).parents[1]
COMMANDS = [
    *stage_graph.modules(load_yaml(ROOT / "dvc.yaml")).values(),
    "flows.ingest",
    "flows.retrain",
    "flows.serve",
    "flows.trigger",
    "flows.remote",
    "flows.export",
    "flows.champion",
    "flows.profile",
    "flows.graph",
    "flows.docs",
    "modeling.summary",
    "modeling.recommend",
    "modeling.recommend_all",
]
HEAVY = ["torch", "transformers", "apache_beam", "prefect", "open_clip", "polars", "dvc", "grimp", "torchvision"]
BEAM_WORKERS = {"pipelines.beam.arrow_coder", "pipelines.sequencing.beam_dofns"}
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
    """Returns exit code, whether help was printed, and seconds by command; and the heavy modules imported."""
    command = [sys.executable, "-c", ASK_FOR_HELP, " ".join(COMMANDS), " ".join(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found, heavy = json.loads(done.stdout)
    return found, heavy


def test_every_command_explains_itself(answers: tuple[dict[str, tuple[int, bool, float]], list[str]]) -> None:
    assert {name: tuple(answer[:2]) for name, answer in answers[0].items()} == dict.fromkeys(COMMANDS, (0, True))


def test_help_leaves_the_heavy_libraries_alone(answers: tuple[dict[str, tuple[int, bool, float]], list[str]]) -> None:
    assert answers[1] == []


def test_importing_any_module_prints_and_logs_nothing() -> None:
    files = [path for package in stage_graph.PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    light = [
        name
        for name in names
        if name not in {"flows.download.prefect_flow", *BEAM_WORKERS} and not name.startswith("modeling.")
    ]
    code = "import importlib, sys\nfor name in sys.argv[1].split(): importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(light)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NAMES = {
    "pyyaml": "yaml", "apache-beam": "apache_beam", "vadersentiment": "vaderSentiment",
}  # fmt: skip
"""Import names of packages of the extras that differ from the package name."""
IMPORT_ALONE = """\
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[2].split():
            raise ModuleNotFoundError(f"{name} is not on the training box", name=name)
sys.meta_path.insert(0, Refuse())
for name in sys.argv[1].split():
    importlib.import_module(name)
"""


@pytest.fixture(scope="module")
def light() -> list[str]:
    """Returns all modules of `modeling` and the modules of `features` they import, late imports included."""
    modeling = {f"modeling.{path.stem}" for path in (ROOT / "modeling").glob("*.py") if path.stem != "__init__"}
    imports = stage_graph.import_graph()
    found = modeling | {above for name in modeling for above in imports.find_upstream_modules(name)}
    return sorted(found - set(stage_graph.PACKAGES))


def imported(path: Path) -> set[str]:
    """Returns the top-level names that a file imports outside of TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = [node for node in ast.walk(tree) if id(node) not in unread]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def test_the_train_extra_is_what_modeling_imports(light: list[str]) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    names = {name for module in light for name in imported(ROOT / f"{module.replace('.', '/')}.py")}
    assert names - sys.stdlib_module_names - set(stage_graph.PACKAGES) == {NAMES.get(name, name) for name in extra}


def test_the_worker_extra_is_what_beam_workers_import() -> None:
    """The modules that Beam workers load, with all modules they import, need the extra `worker` and nothing else."""
    imports = stage_graph.import_graph()
    starts = {
        "pipelines.beam.runner", "pipelines.sequencing.beam_dofns", "pipelines.parsing.parse_block",
        "pipelines.aspects.two_passes", "pipelines.prompting.render_unit",
    }  # fmt: skip
    modules = starts | {above for name in starts for above in imports.find_upstream_modules(name)}
    files = [ROOT / f"{module.replace('.', '/')}.py" for module in modules - set(stage_graph.PACKAGES)]
    names = {name for path in files for name in imported(path)} - sys.stdlib_module_names - set(stage_graph.PACKAGES)
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["worker"]
    assert names == {NAMES.get(name, name) for name in extra}


def test_modeling_is_imported_where_nothing_else_is_installed(light: list[str]) -> None:
    absent = "apache_beam polars prefect dvc PIL scipy open_clip textblob vaderSentiment duckdb grimp"
    command = [sys.executable, "-c", IMPORT_ALONE, " ".join(light), absent]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
