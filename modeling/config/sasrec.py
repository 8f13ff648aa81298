"""Parameters of the SASRec baseline, part of the section `evaluate` of `params.yaml`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SasRecParams:
    """Size and training of the SASRec baseline."""

    width: int = 128
    """Width of the item embeddings."""
    num_blocks: int = 2
    num_heads: int = 2
    max_history: int = 50
    """Maximum number of items of a history, newest first."""
    dropout: float = 0.3
    """Dropout probability of the residual branches."""
    embedding_dropout: float = 0.4
    """Dropout probability of the item embeddings."""
    temperature: float = 0.07
    """Divisor of the cosine similarities before the softmax."""
    num_negatives: int | None = 1024
    """Negatives of the sampled softmax, drawn for each batch; null uses the whole catalogue."""
    start: Literal["spectral", "titles", "random"] = "spectral"
    """Initial item embeddings, as in `pretrain.item_embedding_init`: spectral embeddings of the train interactions, the
    same with title words, or random."""
    batch_size: int = 128
    """Users per batch."""
    learning_rate: float = 0.001
    epochs: int = 40
    """Maximum number of epochs."""
    patience: int = 3
    """Epochs without a better valid NDCG@10 before training stops; the best weights are kept."""
    max_seconds: float | None = None
    """Maximum training time in seconds; null for no limit."""
    valid_users: int = 3000
    """Users, sampled by the seed, whose valid item is ranked after each epoch."""

    def __post_init__(self) -> None:
        for name in ("width", "num_blocks", "num_heads", "max_history", "batch_size", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"sasrec.{name} must be at least 1")
        if self.width % self.num_heads:
            raise ValueError("sasrec.width must be a multiple of sasrec.num_heads")
        if not (0 <= self.dropout < 1 and 0 <= self.embedding_dropout < 1 and self.temperature > 0):
            raise ValueError("sasrec's dropouts must lie in [0, 1) and its temperature above 0")
