"""Keeps `dvc.yaml` true to the code: what each stage reads, imports, writes and is configured by.

Enters: `dvc.yaml` (which stages there are, their commands, descriptions, metrics and plots are written by hand) and the
stage modules. Leaves: the same file with the blocks `deps`, `params` and `outs` of every stage filled in.
Trade-off: a maintained list with a check, rather than a list that is right only while everybody remembers.
"""

import argparse
import ast
import difflib
import functools
import importlib
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from features.errors import VIP5Error
from features.params import load_yaml
from features.stage import configure_logging
from flows import params_form

log = logging.getLogger("vip5")
PACKAGES = ("pipelines", "features", "modeling", "flows")
DATASET = "${dataset}"
_PYTHON = (".py", ".pyc")


class GraphError(VIP5Error):
    """`dvc.yaml` and the code disagree."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one stage declares (`reads`, `writes`, `params`) and what its module imports (`code`)."""

    reads: tuple[str, ...]
    code: tuple[str, ...]
    params: tuple[str, ...]
    writes: tuple[str, ...]


def modules(pipeline: Mapping[str, Any]) -> dict[str, str]:
    """The stages of a loaded `dvc.yaml` and the modules that they run, in the order of the file.

    Example:
        >>> modules({"stages": {"records": {"cmd": "python -m pipelines.records"}}})
        {'records': 'pipelines.records'}
    """
    return {name: stage["cmd"].split("python -m ")[1].split()[0] for name, stage in pipeline["stages"].items()}


def needs(stage: str, module: str, root: Path = Path()) -> Needs:
    """What `dvc.yaml` must say of one stage.

    `dataset` is a parameter where a path depends on it, `seed` where the stage or a module that it imports
    says `context.seed`.
    """
    try:
        declared = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise GraphError(f"no module {module} for stage {stage}", "one module a stage", "correct dvc.yaml") from error
    reads, writes = tuple(declared.READS), tuple(declared.WRITES)
    code = code_files(module, root)
    params = ["dataset"] if any(DATASET in path for path in (*reads, *writes)) else []
    params += ["seed"] if any(_reads_seed(root / path) for path in code) else []
    params += [stage]
    params += [f"datasets.{DATASET}" if section == "datasets" else section for section in declared.SECTIONS]
    return Needs(reads=reads, code=code, params=tuple(params), writes=writes)


def code_files(module: str, root: Path = Path()) -> tuple[str, ...]:
    """The files that decide what `module` does: itself, what it imports of ours, and the data files those name.

    A data file (YAML, template) counts where its name, or that of its folder, stands in a string of a file that counts
    and that may read it: one of its own package, or any if it lies in `features/`.
    The packages' own `__init__.py` hold a docstring only and are left out.
    """
    graph = import_graph()
    imported = {module, *graph.find_upstream_modules(module)}
    python = {f"{name.replace('.', '/')}.py" for name in imported if name not in PACKAGES}
    found = {path for path in python if (root / path).is_file()}
    data = data_files(root)
    frontier = set(found)
    while frontier:
        frontier = {named for path in frontier for named in data if _names(path, named, root)} - found
        found |= frontier
    return tuple(sorted(found))


@functools.cache
def import_graph() -> Any:
    """The import graph of our four packages, imports inside functions included, imports for types only left out."""
    import grimp

    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)


def data_files(root: Path = Path()) -> tuple[str, ...]:
    """The files in our four packages that are not Python."""
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    return tuple(
        sorted(
            path.relative_to(root).as_posix()
            for path in files
            if path.suffix not in _PYTHON and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
    )


def fill(text: str, wanted: Mapping[str, Needs]) -> str:
    """`text` of `dvc.yaml` with `deps`, `params` and `outs` of the `wanted` stages rewritten, all else kept."""
    for stage, need in wanted.items():
        match = re.search(rf"^  {stage}:\n((?:    .*\n|\n(?=    ))+)", text, re.MULTILINE)
        if match is None:
            raise GraphError(f"no stage {stage} in dvc.yaml", "one block a stage", "add `cmd` and `desc` by hand")
        kept = [block for block in _blocks(match[1]) if not re.match(r"    (deps|params|outs):", block)]
        text = text[: match.start(1)] + "".join(kept) + _render(need) + text[match.end(1) :]
    return text


def _render(need: Needs) -> str:
    lines = []
    if need.reads or need.code:
        lines += ["    deps:", *(f"      - {path}" for path in (*need.reads, *need.code))]
    lines += ["    params:", *(f"      - {name}" for name in need.params)]
    lines += ["    outs:", *(f"      - {path}" for path in need.writes)]
    return "\n".join(lines) + "\n"


def _blocks(body: str) -> list[str]:
    return re.findall(r"(?:^    #.*\n)*^    [a-z].*\n(?:^     .*\n)*", body, re.MULTILINE)


def _names(path: str, data_file: str, root: Path) -> bool:
    package, *parts = Path(data_file).parts
    return package in {Path(path).parts[0], "features"} and not _strings(root / path).isdisjoint(parts)


@functools.cache
def _strings(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py":
        return set(re.findall(r"[\w.-]+", text))
    constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    values = [value for value in constants if isinstance(value, str)]
    return {part for value in values for part in value.split("/")}


@functools.cache
def _reads_seed(path: Path) -> bool:
    if path.suffix != ".py":
        return False
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return any(isinstance(node, ast.Attribute) and ast.unparse(node) == "context.seed" for node in nodes)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares `dvc.yaml` with the code, or rewrites it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.graph",
        description="Check that dvc.yaml says what the stages read, import and write, "
        "and that params.yaml has the form that DVC writes.",
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true", help="exit with an error and a diff where they differ")
    choice.add_argument("--write", action="store_true", help="rewrite the blocks deps, params and outs; params.yaml")
    arguments = parser.parse_args(argv)
    configure_logging()
    path = Path("dvc.yaml")
    try:
        return _main(path, write=arguments.write)
    except VIP5Error as error:
        log.error("graph: %s", error)
        return error.exit_code


def _main(path: Path, *, write: bool) -> int:
    sys.path.insert(0, str(Path.cwd()))
    stages = modules(load_yaml(path))
    before = path.read_text(encoding="utf-8")
    after = fill(before, {stage: needs(stage, module) for stage, module in stages.items()})
    yaml.safe_load(after)
    same = params_form.check(Path("params.yaml"), write=write)
    if write:
        path.write_text(after, encoding="utf-8")
        log.warning("graph: %s", "unchanged" if same and after == before else "rewritten")
        return 0
    if after != before:
        sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "dvc.yaml", "code"))
        raise GraphError("dvc.yaml that differs from the code", "the same", ".venv/bin/python -m flows.graph --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
