"""One retrain as a value: what, where, with which parameters, and whom to tell.

Enters: a data set's name and `params.yaml`. Leaves: a `Run`, or what is wrong with the parameters.
Trade-off: everything that can be wrong with the parameters is told here, before a lock is taken or a byte is fetched.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.runtime.params import build, load_yaml
from features.runtime.profiles import merged
from features.runtime.stage import Places
from flows.download import sources
from flows.execution.subprocesses import Tell
from flows.registry.quality_gate import GateParams

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class RetrainParams:
    """Parameters of a retrain (section `retrain`)."""

    photos: bool = False
    """Fetch the photos of new items, where the data set has a photo folder."""
    keep_numbers: bool = True
    """Users and items that the champion knows keep their numbers (a profile's line only)."""
    recommend: bool = True
    """Seal the top items of every user, by the complete histories, with the model."""
    push: bool = False
    """`dvc push` before the model is promoted."""
    wait_seconds: float = 0.0
    """How long a second run waits for the first; 0: it leaves at once."""
    gate: GateParams = field(default_factory=GateParams)
    """When a challenger replaces the champion."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One retrain: what, where, how, and whom to tell."""

    name: str
    run_id: str
    root: Path
    params: Mapping[str, Any]
    how: RetrainParams
    tell: Tell = log.info

    @property
    def is_root_line(self) -> bool:
        """Whether the data set is that of the repository's own params.yaml."""
        return bool(load_yaml(self.root / "params.yaml")["dataset"] == self.name)

    @property
    def places(self) -> Places:
        """Where the data set's files lie."""
        return Places(dataset=self.name, root=self.root)


def prepare(name: str, run_id: str, root: Path = Path(), tell: Tell = log.info) -> Run:
    """The run, its parameters checked; nothing is written.

    Raises:
        ParamsError: no such data set or profile, or a wrong parameter.
    """
    own = load_yaml(root / "params.yaml")
    params = own if own["dataset"] == name else merged([name], root)
    sources.dataset_of(name, {"datasets": params["datasets"]})
    sources.fetching(params)
    how = build(RetrainParams, params.get("retrain") or {}, where="retrain")
    return Run(name=name, run_id=run_id, root=root, params=params, how=how, tell=tell)
