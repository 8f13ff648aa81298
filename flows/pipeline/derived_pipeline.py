"""Derives the pipeline of a profile from `dvc.yaml`: the same stages for another dataset and other parameters.

Reads `profiles/NAME.yaml` (several are merged in order), `params.yaml` and `dvc.yaml`. Writes
`work/profiles/<dataset>/` with the merged parameters, the derived `dvc.yaml` and its lock. The tracked `params.yaml`
and `dvc.yaml` are not modified.

Trade-off: Git ignores `work/`, where DVC accepts a pipeline only with `core.no_scm`; such a run therefore reads that
setting instead of the user's global DVC configuration. DVC's state and cache of profiles are in `work/dvc`, because
`dvc checkout` and `dvc gc -w` in the root would delete outputs of profiles from a shared state and cache.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from features.errors import ParamsError
from features.runtime.datasets import Dataset
from features.runtime.params import build, load_params, load_yaml, merge, nearest
from features.runtime.profiles import merged
from features.runtime.remedies import NOTICE
from features.store.durable import write_text
from flows.download.dump_files import check_arrived
from flows.execution.dvc_lock import repair_dvc_lock
from flows.execution.subprocesses import run_attached
from flows.pipeline.sections import with_defaults
from flows.pipeline.stage_graph import DATASET
from flows.registry.kept_numbers import kept_ids

log = logging.getLogger("vip5")
_HOME = Path("work/profiles")
_DVC = Path("work/dvc")
_SYNTHETIC = "sample"


def check(params: Mapping[str, Any], root: Path = Path()) -> dict[str, Any]:
    """Returns `params` with all defaults, after checking every parameter and that the dumps are present.

    Raises:
        ParamsError: the dataset or a stage's parameter is invalid.
        InputError: a dump is missing or incomplete.
    """
    dataset = params["dataset"]
    root_dataset = load_params(root / "params.yaml")["dataset"]
    if dataset == root_dataset:
        raise ParamsError(
            f"a profile of dataset {dataset}, which is that of params.yaml", "another dataset",
            "list a profile that sets `dataset` first (PROFILE='toys paper'), or edit params.yaml and run "
            "`.venv/bin/dvc repro`",
        )  # fmt: skip
    if dataset not in params["datasets"]:
        raise ParamsError(f"dataset {dataset!r}", nearest(dataset, params["datasets"]), "add it to `datasets`")
    filled = with_defaults(params)
    entry = build(Dataset, params["datasets"][dataset], where=f"datasets.{dataset}")
    if dataset != _SYNTHETIC:
        check_arrived(dataset, entry.files, root)
    for path in strings(params):
        name = path.removeprefix("data/raw/").strip("/")
        if path.startswith("data/raw/") and name in params.get("tokenizers", {}):
            check_arrived(name, params["tokenizers"][name], root)
    return filled


def derive(
    pipeline: Mapping[str, Any], params: Mapping[str, Any], params_path: str, root: Path = Path()
) -> dict[str, Any]:
    """Derives the `dvc.yaml` of one dataset, run from the repository root with the parameters in `params_path`.

    A parameter whose value is the path of a file or folder adds that path to the dependencies of its stages.

    Example:
        A stage {"cmd": "python -m pipelines.records", "params": ["dataset", "records"], ...} becomes
        {"wdir": "../../..", "cmd": "python -m pipelines.records --params work/profiles/toys/params.yaml",
        "params": [{"work/profiles/toys/params.yaml": ["dataset", "records"]}], ...}.
    """
    dataset = params["dataset"]
    stages = {}
    for name, stage in _resolved(pipeline["stages"], dataset).items():
        if name == _SYNTHETIC and dataset != _SYNTHETIC:
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
    """Yields all strings in nested YAML values."""
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


def write_pipeline(names: Sequence[str], root: Path = Path()) -> Path:
    """Checks the profiles and writes the derived parameters and `dvc.yaml`; returns the path of the latter.

    If the dataset has a champion, overrides that keep its ids are merged over the profiles.
    """
    params, pipeline = merged(names, root), load_yaml(root / "dvc.yaml")
    params = check(params, root)
    params = merge(params, kept_ids(params, root))
    folder = _HOME / str(params["dataset"])
    (root / folder).mkdir(parents=True, exist_ok=True)
    derived = derive(pipeline, params, (folder / "params.yaml").as_posix(), root)
    notice = NOTICE.format(names=" + ".join(names))
    for name, content in (("params.yaml", params), ("dvc.yaml", derived)):
        write_text(root / folder / name, notice + _dumped(content))
    write_settings(root)
    return folder / "dvc.yaml"


def write_settings(root: Path = Path()) -> None:
    """Writes the DVC configuration of derived pipelines, which replaces the user's global one."""
    (root / _DVC).mkdir(parents=True, exist_ok=True)
    cache = (root / _DVC / "cache").absolute()
    text = f'[core]\n    no_scm = true\n[cache]\n    dir = "{cache}"\n'
    (root / _DVC / "config").write_text(text, encoding="utf-8")


def _dumped(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # YAML would write a repeated object as an anchor and a reference
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def settings(root: Path = Path()) -> dict[str, str]:
    """Environment variables for DVC in a derived pipeline: its own configuration, cache and state."""
    home = (root / _DVC).absolute()
    return {"DVC_GLOBAL_CONFIG_DIR": str(home), "DVC_SITE_CACHE_DIR": str(home / "state")}


def reproduce(pipeline: Path, *, dry: bool, root: Path = Path()) -> int:
    """Runs DVC on a derived `dvc.yaml`, after repairing a lock that a killed run left; returns DVC's exit code.

    Raises:
        KeyboardInterrupt: the run was interrupted; DVC has ended.
    """
    repair_dvc_lock(root, lambda line: log.warning("profile: %s", line))
    command = [sys.executable, "-m", "dvc", "repro", *(["--dry"] if dry else []), pipeline.as_posix()]
    return run_attached(command, root, settings(root))
