"""Samples several sentences per row from the model, for the choice of the one that is most like the others.

Reads a model and a batch; returns token sequences. Method: ancestral sampling with a temperature. The caller chooses by
minimum Bayes risk (Eikema and Aziz 2020): the sentence with the highest mean similarity to the other samples.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor

from modeling.data.prompt_dataset import Batch
from modeling.decoding.constrained_search import PAD_ID, START_ID
from modeling.decoding.sentence_beams import SentenceVocabulary
from modeling.decoding.tree_decoder import TreeDecoder, start
from modeling.models.vip5 import VIP5

_TOGETHER = 16
"""Samples of a row that share a decoder: its time grows with the square of their number."""


@torch.inference_mode()
def sample_sentences(
    model: VIP5,
    batch: Batch,
    vocabulary: SentenceVocabulary,
    *,
    samples: int,
    temperature: float,
    min_tokens: int,
    max_tokens: int,
    generator: torch.Generator,
) -> Int64[np.ndarray, "B N T"]:
    """Returns `samples` sentences per row, T at most `max_tokens`; padding (0) follows </s>.

    Args:
        model: the model, in evaluation mode.
        batch: B rows.
        vocabulary: the tokens that a sentence may have.
        samples: N.
        temperature: divisor of the logits; below 1 likely tokens become more likely.
        min_tokens: minimum number of tokens before </s>.
        max_tokens: maximum number of tokens, </s> included.
        generator: draws the tokens, on the device of the model.
    """
    encoded = TreeDecoder(model, batch)
    groups = [min(_TOGETHER, samples - first) for first in range(0, samples, _TOGETHER)]
    found = [
        _sampled(model, encoded.reset(), vocabulary, size, temperature, (min_tokens, max_tokens), generator)
        for size in groups
    ]
    width = max(part.shape[2] for part in found)
    return torch.cat([F.pad(part, (0, width - part.shape[2])) for part in found], 1).cpu().numpy()


def _sampled(  # noqa: PLR0917
    model: VIP5, decoder: TreeDecoder, vocabulary: SentenceVocabulary, samples: int, temperature: float,
    lengths: tuple[int, int], generator: torch.Generator,
) -> Int64[Tensor, "B N T"]:  # fmt: skip
    """Samples the sentences of one group of `sample_sentences`, T the length of the longest."""
    min_tokens, max_tokens = lengths
    states, paths = start(decoder, START_ID)
    shape = (decoder.num_rows, samples)
    states = states.expand(-1, samples, -1)
    paths = paths.expand(-1, samples, -1)
    ended = torch.zeros(shape, dtype=torch.bool, device=decoder.device)
    chosen: list[Tensor] = []
    for length in range(1, max_tokens + 1):
        logits = model.t5.lm_head(states).float().masked_fill(~vocabulary.allowed, -torch.inf)
        if length <= min_tokens:
            logits[..., vocabulary.eos_id] = -torch.inf
        shares = (logits / temperature).softmax(-1).flatten(0, 1)
        token = torch.multinomial(shares, 1, generator=generator).view(shape)
        token = token.masked_fill(ended, PAD_ID)
        chosen.append(token)
        ended |= token == vocabulary.eos_id
        if length == max_tokens or bool(ended.all()):
            break
        added = torch.arange(samples, device=decoder.device).expand(shape) + decoder.num_nodes
        paths = torch.cat([paths, added[..., None]], -1)
        states = decoder.decode_nodes(token, paths)
    return torch.stack(chosen, -1)
