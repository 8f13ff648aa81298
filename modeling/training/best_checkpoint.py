"""Keeps the best weights by a validation metric, and stops early when the metric no longer improves.

Reads validation metrics and the trainable weights; keeps a copy of the best ones.
Trade-off: the copy of all trainable parameters stays in memory, so that restoring them reads no file.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from features.errors import ParamsError


class BestCheckpoint:
    """The best validation so far and its weights.

    Args:
        metric: loss, hr@10 or last, as in `Validation.checkpoint_metric`.
        patience: validations without improvement before `is_out_of_patience`; None never stops early.
    """

    def __init__(self, metric: str, patience: int | None) -> None:
        self.metric, self.patience = metric, patience
        self.worse_in_a_row = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def is_out_of_patience(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.worse_in_a_row >= self.patience

    def update(
        self, metrics: Mapping[str, float], best: Mapping[str, float], trainable: Sequence[tuple[str, nn.Parameter]]
    ) -> bool:
        """Returns whether `metrics` improves on `best`; if so, copies the weights.

        Raises:
            ParamsError: the metric is hr@10 and `metrics` has no HR@10.
        """
        if self.metric == "hr@10" and "valid_hr@10" not in metrics:
            raise ParamsError(
                "checkpoint_metric: hr@10 with identifiers of several tokens", "loss or last", "change it"
            )
        improved = not best or self.metric == "last" or self._score(metrics) > self._score(best)
        self.worse_in_a_row = 0 if improved else self.worse_in_a_row + 1
        if improved and self.metric != "last":
            self.weights = {name: parameter.detach().clone() for name, parameter in trainable}
        return improved

    def restore(self, trainable: Sequence[tuple[str, nn.Parameter]]) -> None:
        """Copies the best weights back; does nothing for the metric last."""
        with torch.no_grad():
            for name, parameter in trainable:
                if name in self.weights:
                    parameter.copy_(self.weights[name])

    def _score(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        """Higher is better; the loss breaks ties in HR@10."""
        loss = metrics["valid_loss"]
        return (metrics["valid_hr@10"], -loss) if self.metric == "hr@10" else (-loss, 0.0)
