"""Which measured step is kept, and when none better is to be expected.

Enters: what was measured, and the weights at that moment. Leaves: the best weights.
Trade-off: a copy of all that trains stays in memory, so that the best step needs no second pass and no file.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from features.errors import ParamsError


class Choice:
    """The best measurement so far.

    Args:
        by: loss, hr@10 or last, as in `LoopParams.select_by`.
        patience: measurements without a better one before `is_out_of_patience`; None for never.
    """

    def __init__(self, by: str, patience: int | None) -> None:
        self.by, self.patience = by, patience
        self.worse_in_a_row = 0
        self.weights: dict[str, Tensor] = {}

    @property
    def is_out_of_patience(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.worse_in_a_row >= self.patience

    def is_better(
        self, found: Mapping[str, float], best: Mapping[str, float], trained: Sequence[tuple[str, nn.Parameter]]
    ) -> bool:
        """Whether `found` beats `best`; the weights are then kept.

        Raises:
            ParamsError: HR@10 is to choose and is not measured.
        """
        if self.by == "hr@10" and "valid_hr@10" not in found:
            raise ParamsError("select_by: hr@10 with identifiers of several tokens", "loss or last", "change it")
        better = not best or self.by == "last" or self._score(found) > self._score(best)
        self.worse_in_a_row = 0 if better else self.worse_in_a_row + 1
        if better and self.by != "last":
            self.weights = {name: parameter.detach().clone() for name, parameter in trained}
        return better

    def restore(self, trained: Sequence[tuple[str, nn.Parameter]]) -> None:
        """Puts the best weights back, where a best was chosen."""
        with torch.no_grad():
            for name, parameter in trained:
                if name in self.weights:
                    parameter.copy_(self.weights[name])

    def _score(self, found: Mapping[str, float]) -> tuple[float, float]:
        """Higher is better; the loss breaks ties of HR@10."""
        return (found["valid_hr@10"], -found["valid_loss"]) if self.by == "hr@10" else (-found["valid_loss"], 0.0)
