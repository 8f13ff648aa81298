"""The configuration of one retrain: dataset, parameters, root folder and log function.

Reads `params.yaml` and the profile of the dataset. Every parameter is validated here, before the workspace lock is
taken or anything is downloaded.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.runtime.names import checked_name
from features.runtime.params import build, load_params
from features.runtime.profiles import merged
from features.runtime.stage import Places
from flows.download import sources
from flows.execution.subprocesses import Report
from flows.pipeline.sections import with_defaults
from flows.registry.quality_gate import GateParams

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class RetrainParams:
    """Parameters of a retrain (section `retrain`)."""

    photos: bool = False
    """Download the photos of new items; requires a photo folder in the dataset's entry."""
    keep_ids: bool = True
    """Keep the ids of users and items that the champion knows. Applies to pipelines of a profile only."""
    recommend: bool = True
    """Compute the top items of every user from complete histories and seal them with the model."""
    push: bool = False
    """Run `dvc push` before the model is promoted."""
    wait_seconds: float = 0.0
    """Seconds to wait for a run in progress; 0 fails immediately."""
    gate: GateParams = field(default_factory=GateParams)
    """Parameters of the quality gate."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The configuration of one retrain."""

    name: str
    run_id: str
    root: Path
    params: Mapping[str, Any]
    config: RetrainParams
    report: Report = log.info

    @property
    def is_root_pipeline(self) -> bool:
        """Whether the dataset is the one that the root `params.yaml` names."""
        return bool(load_params(self.root / "params.yaml")["dataset"] == self.name)

    @property
    def places(self) -> Places:
        """Paths of the dataset's files."""
        return Places(dataset=self.name, root=self.root)


def prepare(name: str, run_id: str, root: Path = Path(), report: Report = log.info) -> Run:
    """Validates the parameters and returns the run; writes nothing.

    Raises:
        ParamsError: the dataset or profile does not exist, or a parameter is invalid.
    """
    checked_name(name, "dataset")
    root_params = load_params(root / "params.yaml")
    params = root_params if root_params["dataset"] == name else merged([name], root)
    sources.dataset_of(name, {"datasets": params["datasets"]})
    params = with_defaults(params)
    config = build(RetrainParams, params.get("retrain") or {}, where="retrain")
    return Run(name=name, run_id=run_id, root=root, params=params, config=config, report=report)
