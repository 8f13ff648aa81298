"""Runs a pipeline stage: file locations, parameters, command line, exit code and log line.

Trade-off: a stage is a module with `Params`, `SECTIONS`, `READS`, `WRITES`, `run` and `main`, not a subclass.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from features.errors import ParamsError, VIP5Error
from features.runtime.exit_codes import INTERRUPTED
from features.runtime.faults import environment_faults
from features.runtime.logs import formatter, stage_record
from features.runtime.params import build, load_params, nearest
from features.runtime.remedies import for_dataset, for_profile

P = TypeVar("P")
log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Places:
    """File locations of one dataset, relative to the repository root."""

    dataset: str
    root: Path = Path()

    @property
    def raw(self) -> Path:
        """The dump: `data/raw/<dataset>`."""
        return self.root / "data" / "raw" / self.dataset

    def table(self, name: str) -> Path:
        """A table's folder: `data/<dataset>/<name>`."""
        return self.root / "data" / self.dataset / name

    def model(self, stage: str) -> Path:
        """A trained model's folder: `models/<dataset>/<stage>`."""
        return self.root / "models" / self.dataset / stage

    def metrics(self, name: str) -> Path:
        """A metrics file: `metrics/<dataset>/<name>`."""
        return self.root / "metrics" / self.dataset / name

    def plots(self, name: str) -> Path:
        """A plot file: `plots/<dataset>/<name>`."""
        return self.root / "plots" / self.dataset / name

    def report(self, name: str) -> Path:
        """A report page: `reports/<dataset>/<name>`."""
        return self.root / "reports" / self.dataset / name

    def checkpoints(self, digest: str) -> Path:
        """Training state, not tracked by DVC: `work/checkpoints/<digest of params and inputs>`."""
        return self.root / "work" / "checkpoints" / digest

    def features(self, digest: str) -> Path:
        """Feature cache, not tracked by DVC: `work/features/<digest of everything that determines a feature>`."""
        return self.root / "work" / "features" / digest


@dataclass(frozen=True, kw_only=True)
class Context(Places):
    """`Places` plus the run's seed and the shared sections that the stage declares in SECTIONS."""

    seed: int
    shared: Mapping[str, Any]


def load(path: Path, stage: str, params: type[P], sections: Sequence[str]) -> tuple[P, Context]:
    """Loads the parameters of one stage: its own section as a dataclass, and the declared shared keys.

    Args:
        path: YAML file of parameters.
        stage: Name of the section.
        params: The stage's dataclass.
        sections: Shared top-level keys that the stage reads, such as ("datasets", "beam"). `dataset` and `seed` are
            always read. `datasets` is reduced to the entry of the selected dataset.
    """
    whole = load_params(path)
    for key in ("dataset", "seed", stage, *sections):
        if key not in whole:
            raise ParamsError(f"no section {key} in {path}", nearest(key, whole), "add it")
    dataset = whole["dataset"]
    shared: dict[str, Any] = {}
    for key in sections:
        shared[key] = whole[key]
        if key == "datasets":
            if dataset not in whole[key]:
                raise ParamsError(
                    f"dataset {dataset!r}", nearest(str(dataset), whole[key]), f"add datasets.{dataset} to {path}"
                )
            shared[key] = whole[key][dataset]
    own = build(params, whole[stage] or {}, where=stage)
    return own, Context(dataset=dataset, seed=checked_seed(whole["seed"]), shared=shared)


def checked_seed(value: object) -> int:
    """The parameter `seed`.

    Raises:
        ParamsError: It is not a whole number from 0 to 2^63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ParamsError(f"seed = {value!r}", "a whole number from 0 to 2^63 - 1", "change it in params.yaml")
    return value


def main(
    stage: str,
    params: type[P],
    sections: Sequence[str],
    run: Callable[[P, Context], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs one stage from the command line and returns its exit code; `run` returns the number of rows written."""
    arguments = parser_of(stage, run).parse_args(argv)
    return execute(stage, params, sections, run, arguments.params)


def parser_of(stage: str, run: Callable[[P, Context], int]) -> argparse.ArgumentParser:
    """The argument parser of a stage, described by the first line of `run`'s docstring."""
    package = Path(run.__code__.co_filename).parent.name
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}.{stage}",
        description=(run.__doc__ or stage).strip().splitlines()[0],
        epilog=f"The parameters of this stage are the section `{stage}` of the file.",
    )
    parser.add_argument(
        "--params", type=Path, metavar="FILE", default=Path("params.yaml"),
        help="YAML file of parameters (default: %(default)s)",
    )  # fmt: skip
    return parser


def execute(stage: str, params: type[P], sections: Sequence[str], run: Callable[[P, Context], int], path: Path) -> int:
    """Runs one stage with the parameters of `path` and returns its exit code."""
    configure_logging()
    # Read by libgomp, torch's OpenMP, when it is loaded. On shared cores, spinning threads made a training loop 13 to
    # 19 times slower on two threads than on one; sleeping threads cost 5 %.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    started = time.monotonic()
    dataset = None
    try:
        with environment_faults():
            own, context = load(path, stage, params, sections)
            dataset = context.dataset
            rows = run(own, context)
    except VIP5Error as error:
        return _failed(stage, for_profile(for_dataset(error, dataset), path), started)
    except KeyboardInterrupt:
        record = stage_record(stage, rows=None, seconds=time.monotonic() - started, exit_code=INTERRUPTED)
        log.error("%s: interrupted", stage, extra=record)
        return INTERRUPTED
    record = stage_record(stage, rows=rows, seconds=time.monotonic() - started, exit_code=0)
    memory = record["peak_memory_bytes"] / 2**30
    log.info(
        "%s: %s rows in %.1f s, peak memory %.2f GB", stage, f"{rows:,}", record["seconds"], memory, extra=record
    )  # fmt: skip
    return 0


def _failed(stage: str, error: VIP5Error, started: float) -> int:
    record = stage_record(stage, rows=None, seconds=time.monotonic() - started, exit_code=error.exit_code)
    log.error("%s: %s", stage, error, extra=record)
    return error.exit_code


def configure_logging() -> None:
    """Logs to standard error, plain or JSON; call before importing libraries that install their own handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger().addFilter(_is_news)
    log.setLevel(logging.INFO)


_KNOWN = (
    "apitools not found",  # Beam on a Google client that nothing here uses
    "No pretrained weights loaded",  # open_clip; features/encoders/open_clip_models.py logs its own warning
)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record of the root logger is not one of the uninformative library messages in `_KNOWN`."""
    return not record.getMessage().startswith(_KNOWN)
