"""Validation during training: the loss on fixed rows and, with one-token identifiers, HR@10.

Reads valid prompts; returns `valid_loss` and `valid_hr@10`.
Trade-off: one decoder step ranks the whole catalogue, which is exact for one-token identifiers only; HR@10 is not
computed for others. Only prompts used in training are evaluated, so that held-out prompts do not influence the choice
of the checkpoint.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from features.runtime.seeds import rng
from features.schema import FAMILIES
from modeling.data.length_batching import plan_batches
from modeling.data.prompt_dataset import Batch, PromptDataset
from modeling.models.vip5 import START_ID, VIP5

TOP = 10
_BATCH_ROWS, _BATCH_TOKENS = 64, 16_384


class Validator:
    """Evaluates a model on the same rows each time.

    Args:
        corpus: the valid prompts.
        rows: row numbers, from `fixed_rows`.
    """

    def __init__(self, corpus: PromptDataset, rows: npt.NDArray[np.int64]) -> None:
        self.corpus = corpus
        self.num_rows = len(rows)
        plan = plan_batches(
            corpus.lengths[rows],
            corpus.targets.lengths[rows],
            batch_size=_BATCH_ROWS,
            tokens_per_batch=_BATCH_TOKENS,
        )
        self.batches = [rows[batch] for batch in plan]

    def __call__(self, model: VIP5) -> dict[str, float]:
        """Returns `valid_loss` (nats per target token), `valid_loss_<family>` and, if defined, `valid_hr@10`."""
        device = next(model.parameters()).device
        identifiers = torch.from_numpy(self.corpus.tokens.identifier_ids.astype(np.int64)).to(device)
        sums = torch.zeros(2, len(FAMILIES), device=device)
        hits: list[Tensor] = []
        model.eval()
        with torch.no_grad():
            for rows in self.batches:
                batch = self.corpus.batch(rows, device)
                sums += torch.stack(model(batch).by_family())
                ranked = self.corpus.next_item_rows(rows)
                if len(ranked):
                    ranks = first_step_ranks(model, self.corpus.batch(ranked, device), identifiers)
                    hits.append((ranks < TOP).float())
        totals, counts = sums.tolist()
        metrics = {"valid_loss": sum(totals) / max(1.0, sum(counts))}
        metrics |= {f"valid_loss_{f}": t / c for f, t, c in zip(FAMILIES, totals, counts, strict=True) if c}
        if hits:
            metrics[f"valid_hr@{TOP}"] = float(torch.cat(hits).mean())
        return metrics


def fixed_rows(
    corpus: PromptDataset, trained_prompts: Sequence[str], per_family: int, seed: int
) -> npt.NDArray[np.int64]:
    """Samples up to `per_family` rows per family from prompts that training uses; ascending row numbers."""
    trained = pc.is_in(corpus.prompt_ids, pa.array(sorted(set(trained_prompts)), pa.string()))
    allowed = trained.to_numpy()
    chosen = []
    for index, family in enumerate(FAMILIES):
        rows = np.flatnonzero(allowed & (corpus.families == index))
        size = min(per_family, len(rows))
        chosen.append(rng(seed, "valid rows", family).choice(rows, size, replace=False) if size else rows[:0])
    return np.array(sorted(row for rows in chosen for row in rows.tolist()), np.int64)


def first_step_ranks(model: VIP5, batch: Batch, identifiers: Tensor) -> Tensor:
    """Rank (B,), from 0, of each row's target among all identifiers that its source does not contain."""
    states = model.encode(batch)
    start = torch.full_like(batch.labels[:, :1], START_ID)
    logits = model.logits(start, states, batch.attention_mask, batch.families)[:, 0].float()  # (B, V)
    target = logits.gather(1, batch.labels[:, :1])
    logits = logits.scatter(1, batch.input_ids, -torch.inf)
    return (logits[:, identifiers] > target).sum(1)
