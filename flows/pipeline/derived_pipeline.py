"""The pipeline of a profile, derived from `dvc.yaml`: the same stages for another data set and other parameters.

Enters: `profiles/NAME.yaml` (several are laid one over the other), `params.yaml`, `dvc.yaml`. Leaves: the
tables, models, metrics and reports of the profile's dataset, and `work/profiles/<dataset>/` with the merged parameters,
the derived `dvc.yaml` and its lock. The tracked `params.yaml` and `dvc.yaml` are only read.
Trade-off: the graph is derived, never restated; because Git ignores `work/`, DVC accepts a pipeline there only with
`core.no_scm`, so such a run reads that setting in place of the user's global DVC configuration. DVC's state and cache
of profiles lie in `work/dvc`: `dvc checkout` and `dvc gc -w` in the root do not know the profiles, and delete whatever
of theirs stands in the root's state and cache.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from features.errors import ParamsError
from features.runtime.datasets import Dataset
from features.runtime.params import build, load_yaml, merge, nearest
from features.runtime.profiles import merged
from flows.download.dump_files import check_arrived
from flows.execution.subprocesses import environment
from flows.pipeline.stage_graph import DATASET, modules
from flows.registry.kept_numbers import kept_numbers

_HOME = Path("work/profiles")
_DVC = Path("work/dvc")
_MADE_UP = "sample"


def check(params: Mapping[str, Any], pipeline: Mapping[str, Any], root: Path = Path()) -> None:
    """Raises, before any work, what any stage would raise about its parameters, or about a dump that is not there."""
    dataset = params["dataset"]
    own = load_yaml(root / "params.yaml")["dataset"]
    if dataset == own:
        raise ParamsError(
            f"a profile of dataset {dataset}, which is that of params.yaml", "another dataset",
            "name a profile that sets `dataset` first (PROFILE='toys paper'), or edit params.yaml and run "
            "`.venv/bin/dvc repro`",
        )  # fmt: skip
    if dataset not in params["datasets"]:
        raise ParamsError(f"dataset {dataset!r}", nearest(dataset, params["datasets"]), "add it to `datasets`")
    for stage, module in modules(pipeline).items():
        build(importlib.import_module(module).Params, params[stage] or {}, where=stage)
    entry = build(Dataset, params["datasets"][dataset], where=f"datasets.{dataset}")
    if dataset != _MADE_UP:
        check_arrived(dataset, entry.files, root)
    for path in strings(params):
        name = path.removeprefix("data/raw/").strip("/")
        if path.startswith("data/raw/") and name in params.get("tokenizers", {}):
            check_arrived(name, params["tokenizers"][name], root)


def derive(
    pipeline: Mapping[str, Any], params: Mapping[str, Any], params_path: str, root: Path = Path()
) -> dict[str, Any]:
    """The graph of `dvc.yaml` for one dataset, run from the repository root with the parameters of `params_path`.

    A parameter whose value is the path of a file or folder makes that a dependency of every stage that reads it.

    Example:
        A stage {"cmd": "python -m pipelines.records", "params": ["dataset", "records"], ...} becomes
        {"wdir": "../../..", "cmd": "python -m pipelines.records --params work/profiles/toys/params.yaml",
        "params": [{"work/profiles/toys/params.yaml": ["dataset", "records"]}], ...}.
    """
    dataset = params["dataset"]
    stages = {}
    for name, stage in _resolved(pipeline["stages"], dataset).items():
        if name == _MADE_UP and dataset != _MADE_UP:
            continue
        sections = [params[key] for key in stage["params"] if key in params]
        inputs = [path for path in strings(sections) if "/" in path and (root / path).exists()]
        stages[name] = stage | {
            "wdir": "/".join(".." for _ in Path(params_path).parent.parts),
            "cmd": f"{stage['cmd']} --params {params_path}",
            "deps": [*dict.fromkeys([*stage.get("deps", []), *inputs])],
            "params": [{params_path: stage["params"]}],
        }
    return {"stages": stages}


def strings(values: Any) -> Iterator[str]:
    """All strings among nested YAML values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        yield from strings(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from strings(value)


def _resolved(values: Any, dataset: str) -> Any:
    if isinstance(values, str):
        return values.replace(DATASET, dataset)
    if isinstance(values, Mapping):
        return {_resolved(key, dataset): _resolved(value, dataset) for key, value in values.items()}
    return [_resolved(value, dataset) for value in values] if isinstance(values, list) else values


def write_line(names: Sequence[str], root: Path = Path()) -> Path:
    """Checks the profiles and writes their parameters and graph; returns the path of the derived `dvc.yaml`.

    Where the dataset has a champion, parameters that keep its numbers are laid over the profiles.
    """
    params, pipeline = merged(names, root), load_yaml(root / "dvc.yaml")
    check(params, pipeline, root)
    params = merge(params, kept_numbers(params, root))
    folder = _HOME / str(params["dataset"])
    (root / folder).mkdir(parents=True, exist_ok=True)
    derived = derive(pipeline, params, (folder / "params.yaml").as_posix(), root)
    notice = f"# Made of {' + '.join(['params.yaml', *names])} by flows.profile; edit those instead.\n"
    for name, content in (("params.yaml", params), ("dvc.yaml", derived)):
        temporary = root / folder / f".{name}.tmp"
        temporary.write_text(notice + _dumped(content), encoding="utf-8")
        temporary.rename(root / folder / name)
    write_settings(root)
    return folder / "dvc.yaml"


def write_settings(root: Path = Path()) -> None:
    """Writes the DVC configuration of derived lines, read in place of the user's global one."""
    (root / _DVC).mkdir(parents=True, exist_ok=True)
    cache = (root / _DVC / "cache").absolute()
    text = f'[core]\n    no_scm = true\n[cache]\n    dir = "{cache}"\n'
    (root / _DVC / "config").write_text(text, encoding="utf-8")


def _dumped(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # one object twice would be written as an anchor and a reference
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def settings(root: Path = Path()) -> dict[str, str]:
    """What the environment of DVC needs for a derived line: its own configuration, cache and state."""
    home = (root / _DVC).absolute()
    return {"DVC_GLOBAL_CONFIG_DIR": str(home), "DVC_SITE_CACHE_DIR": str(home / "state")}


def reproduce(line: Path, *, dry: bool, root: Path = Path()) -> int:
    """Runs DVC on a derived `dvc.yaml`, its output streamed; returns DVC's exit code."""
    command = [sys.executable, "-m", "dvc", "repro", *(["--dry"] if dry else []), line.as_posix()]
    try:
        return subprocess.run(command, env=environment(settings(root)), cwd=root, check=False).returncode  # noqa: S603 - our own words
    except KeyboardInterrupt:  # DVC got the signal too and has said so
        return 130
