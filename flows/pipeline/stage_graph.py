"""Derives `deps`, `params` and `outs` of every stage in `dvc.yaml` from the stage modules and their imports."""

import ast
import functools
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.errors import VIP5Error

PACKAGES = ("pipelines", "features", "modeling", "flows")
DATASET = "${dataset}"
_PYTHON = (".py", ".pyc")


class GraphError(VIP5Error):
    """`dvc.yaml` and the code disagree."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Inputs, outputs and parameters that a stage declares, and the code that it imports."""

    reads: tuple[str, ...]
    code: tuple[str, ...]
    params: tuple[str, ...]
    writes: tuple[str, ...]


def modules(pipeline: Mapping[str, Any]) -> dict[str, str]:
    """Maps the stages of a loaded `dvc.yaml` to the modules that they run, in the order of the file.

    Example:
        >>> modules({"stages": {"records": {"cmd": "python -m pipelines.records"}}})
        {'records': 'pipelines.records'}
    """
    return {name: stage["cmd"].split("python -m ")[1].split()[0] for name, stage in pipeline["stages"].items()}


def needs(stage: str, module: str, root: Path = Path()) -> Needs:
    """The dependencies, parameters and outputs of one stage.

    `dataset` is a parameter if a path depends on it, `seed` if the stage or a module that it imports reads
    `context.seed`.
    """
    try:
        declared = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise GraphError(f"no module {module} for stage {stage}", "one module per stage", "correct dvc.yaml") from error
    reads, writes = tuple(declared.READS), tuple(declared.WRITES)
    files = code_files(module, root)
    params = ["dataset"] if any(DATASET in path for path in (*reads, *writes)) else []
    params += ["seed"] if any(_reads_seed(root / path) for path in files) else []
    params += [stage]
    params += [f"datasets.{DATASET}" if section == "datasets" else section for section in declared.SECTIONS]
    return Needs(reads=reads, code=rooms_of(files), params=tuple(params), writes=writes)


def all_needs(pipeline: Mapping[str, Any], root: Path = Path()) -> dict[str, Needs]:
    """The needs of every stage; a folder whose tables are all read replaces the single tables."""
    found = {stage: needs(stage, module, root) for stage, module in modules(pipeline).items()}
    outputs = [path for need in found.values() for path in need.writes]
    return {stage: replace(need, reads=common_folders(need.reads, outputs)) for stage, need in found.items()}


def rooms_of(files: Sequence[str]) -> tuple[str, ...]:
    """The files at the top of a package, and the folders of all others, sorted.

    A folder as a dependency keeps `dvc.yaml` short; a change of any file in it runs the stage again.

    Example:
        >>> rooms_of(["features/errors.py", "features/store/manifests.py", "features/store/tables.py"])
        ('features/errors.py', 'features/store')
    """
    parts = (path.split("/") for path in files)
    return tuple(sorted({"/".join(part[:2]) for part in parts}))


def code_files(module: str, root: Path = Path()) -> tuple[str, ...]:
    """The files on which `module` depends: itself, the modules of this project that it imports, and data files.

    A data file (YAML, template) is included if its name, or that of its folder, occurs in a string of an included file
    that may read it: a file of the same package, or any file if the data file is in `features/`.
    The packages' `__init__.py` hold only a docstring and are excluded.
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
    """The import graph of the four packages, with imports inside functions and without type-only imports."""
    import grimp

    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)


def data_files(root: Path = Path()) -> tuple[str, ...]:
    """The files of the four packages that are not Python."""
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    return tuple(
        sorted(
            path.relative_to(root).as_posix()
            for path in files
            if path.suffix not in _PYTHON and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
    )


def fill(text: str, wanted: Mapping[str, Needs]) -> str:
    """Rewrites `deps`, `params` and `outs` of the `wanted` stages in the text of `dvc.yaml`; keeps everything else."""
    for stage, need in wanted.items():
        match = re.search(rf"^  {stage}:\n((?:    .*\n|\n(?=    ))+)", text, re.MULTILINE)
        if match is None:
            raise GraphError(f"no stage {stage} in dvc.yaml", "one block per stage", "add `cmd` and `desc` manually")
        kept = [block for block in _blocks(match[1]) if not re.match(r"    (deps|params|outs):", block)]
        text = text[: match.start(1)] + "".join(kept) + _render(need) + text[match.end(1) :]
    return text


def _render(need: Needs) -> str:
    lines = []
    if need.reads or need.code:
        lines += ["    deps:", *(f"      - {path}" for path in (*need.reads, *need.code))]
    lines += [f"    params: [{', '.join(_quoted(name) for name in need.params)}]"]
    lines += ["    outs:", *(f"      - {path}" for path in need.writes)]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return f"'{name}'" if "{" in name else name


def common_folders(reads: Sequence[str], outputs: Sequence[str]) -> tuple[str, ...]:
    """Replaces the tables of a folder in `reads` by the folder if all of them are read.

    Models are listed individually: their folder also holds the champions, and a promotion must not run a stage again.

    Example:
        >>> common_folders(["data/a/x", "data/a/y", "data/b/x"], ["data/a/x", "data/a/y", "data/b/x", "data/b/y"])
        ('data/a', 'data/b/x')
    """
    by_folder: dict[str, set[str]] = {}
    for path in (path for path in outputs if path.startswith("data/")):
        by_folder.setdefault(path.rpartition("/")[0], set()).add(path)
    whole = {folder for folder, paths in by_folder.items() if len(paths) > 1 and paths <= set(reads)}
    return tuple(dict.fromkeys(found if (found := path.rpartition("/")[0]) in whole else path for path in reads))


def _blocks(body: str) -> list[str]:
    return re.findall(r"(?:^    #.*\n)*^    [a-z].*\n(?:^     .*\n)*", body, re.MULTILINE)


def _names(path: str, data_file: str, root: Path) -> bool:
    package, *folders, name = Path(data_file).parts
    below = [root / package / Path(*folders[: depth + 1]) for depth in range(len(folders))]
    names = {name, *(folder.name for folder in below if not (folder / "__init__.py").is_file())}
    return package in {Path(path).parts[0], "features"} and not _strings(root / path).isdisjoint(names)


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
