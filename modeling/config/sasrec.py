"""The size and training of the rival SASRec: part of the section `evaluate` of `params.yaml`.

Enters: nothing. Leaves: a dataclass. Trade-off: apart from the model, so that reading parameters does not load torch.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SasRecParams:
    """The rival's size and training."""

    width: int = 128
    """Numbers an item vector."""
    num_blocks: int = 2
    num_heads: int = 2
    max_history: int = 50
    """Newest items read."""
    dropout: float = 0.3
    """Of what each block adds."""
    embedding_dropout: float = 0.4
    """Of the item vectors that are read."""
    temperature: float = 0.07
    """Cosines are divided by it before the softmax."""
    num_negatives: int | None = 1024
    """Items of the softmax beside the right one, drawn anew for each batch; null for the whole catalogue."""
    start: Literal["spectral", "titles", "random"] = "spectral"
    """Item vectors at the start: the leading directions of the train purchases, of these and of title words (as
    `pretrain.item_vectors`), or noise."""
    batch_size: int = 128
    """Users a batch."""
    learning_rate: float = 0.001
    epochs: int = 40
    """At most."""
    patience: int = 3
    """Epochs without a better NDCG@10 on valid before training stops; the best one's weights are kept."""
    max_seconds: float | None = None
    """Training stops cleanly after so many seconds of wall time; null for no limit."""
    valid_users: int = 3000
    """Users, drawn by the seed, whose valid item is ranked after each epoch."""

    def __post_init__(self) -> None:
        for name in ("width", "num_blocks", "num_heads", "max_history", "batch_size", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"sasrec.{name} must be at least 1")
        if self.width % self.num_heads:
            raise ValueError("sasrec.width must be a multiple of sasrec.num_heads")
        if not (0 <= self.dropout < 1 and 0 <= self.embedding_dropout < 1 and self.temperature > 0):
            raise ValueError("sasrec's dropouts must lie in [0, 1) and its temperature above 0")
