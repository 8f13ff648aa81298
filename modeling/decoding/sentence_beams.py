"""Beam search for sentences, with a minimum length, without repeated token pairs, and with a required word per row.

Reads a model and a batch; returns the best token sequence of every row.
Method: hypotheses are kept in banks by how many tokens of the required word they contain, and every bank keeps its own
best hypotheses (grid beam search, Hokamp and Liu 2017). A sentence can end only in the last bank, so every finished
sentence contains the required word. Without a required word there is one bank, which is ordinary beam search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from modeling.data.prompt_dataset import Batch
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.decoding.constrained_search import PAD_ID, START_ID
from modeling.decoding.tree_decoder import TreeDecoder, gather_rows, start
from modeling.models.vip5 import VIP5

_NONE = -1  # no token


@dataclass(frozen=True, kw_only=True)
class SentenceVocabulary:
    """What a sentence may consist of."""

    allowed: Bool[Tensor, "V"]
    """Tokens of plain text and the end of sequence."""
    continues: Bool[Tensor, "V"]
    """Tokens that continue the preceding word."""
    eos_id: int

    @classmethod
    def of(cls, tokens: VIP5Tokenizer, model: VIP5, *, words_only: bool = True) -> "SentenceVocabulary":
        """Returns the vocabulary of a model on its device: plain text and </s>, or every token of the model."""
        device = next(model.parameters()).device
        allowed = torch.full((len(model.t5.lm_head.weight),), not words_only)
        allowed[[*tokens.word_ids.tolist(), tokens.eos_id]] = True
        continues = torch.zeros_like(allowed)
        continues[torch.from_numpy(tokens.continuation_ids).long()] = True
        return cls(allowed=allowed.to(device), continues=continues.to(device), eos_id=tokens.eos_id)


@dataclass
class _Hypotheses:
    """H hypotheses of every row; a dead one has the score minus infinity."""

    tokens: Tensor
    """(B, H, L) tokens after the start token."""
    nodes: Tensor
    """(B, H, L + 1) path of nodes in the decoder."""
    scores: Tensor
    """(B, H) sum of log-probabilities, nats."""
    matched: Tensor
    """(B, H) number of tokens of the required word so far."""
    completed: Tensor
    """(B, H) whether the last token completed the required word."""


@torch.inference_mode()
def decode_sentences(
    model: VIP5,
    batch: Batch,
    vocabulary: SentenceVocabulary,
    *,
    beams: int,
    min_tokens: int,
    max_tokens: int,
    length_exponent: float,
    forbid_repeated_pairs: bool = True,
    required: Sequence[Sequence[int]] | None = None,
) -> Int64[np.ndarray, "B T"]:
    """Returns the best sentence of every row as tokens, T at most `max_tokens`; padding (0) follows </s>.

    Args:
        model: the model, in evaluation mode.
        batch: B rows.
        vocabulary: the tokens that a sentence may have.
        beams: hypotheses per row (and bank).
        min_tokens: minimum number of tokens before </s>.
        max_tokens: maximum number of tokens, </s> included; larger than the longest required word.
        length_exponent: a finished hypothesis is scored by its log-probability divided by its length to this power.
        forbid_repeated_pairs: whether no token may follow the same token twice.
        required: tokens of a word that the sentence of each row must contain as a whole word; empty for none.
    """
    decoder = TreeDecoder(model, batch)
    states, paths = start(decoder, START_ID)
    words = _padded(required or [()] * decoder.num_rows, decoder.device)
    counts = (words != _NONE).sum(1)
    num_banks = int(counts.max()) + 1
    live = _first(decoder, paths)
    best = torch.full((decoder.num_rows, max_tokens), PAD_ID, dtype=torch.long, device=decoder.device)
    best_score = torch.full((decoder.num_rows,), -torch.inf, device=decoder.device)
    finished = torch.zeros(decoder.num_rows, dtype=torch.long, device=decoder.device)
    for length in range(1, max_tokens + 1):
        log_probs = _allowed_log_probs(model, states, live, vocabulary, forbid_repeated_pairs=forbid_repeated_pairs)
        ends = live.scores + log_probs[..., vocabulary.eos_id]
        barred = (live.matched < counts[:, None]) | (finished >= beams)[:, None] | (length <= min_tokens)
        ends = ends.masked_fill(barred, -torch.inf)
        log_probs[..., vocabulary.eos_id] = -torch.inf
        extended, token = _extend(live, log_probs, words, counts, beams=beams, num_banks=num_banks)
        if length < max_tokens:  # a sentence ends only if it is among the best continuations of its bank
            ends = ends.masked_fill(ends < _worst(extended, counts, beams)[:, None], -torch.inf)
        finished = _finish(ends / length**length_exponent, live.tokens, vocabulary.eos_id, best, best_score, finished)
        if length == max_tokens or bool((finished >= beams).all()):
            break
        live = extended
        added = torch.arange(token.shape[1], device=token.device).expand_as(token) + decoder.num_nodes
        live.nodes = torch.cat([live.nodes, added[..., None]], -1)
        states = decoder.decode_nodes(token, live.nodes)
    _fall_back(live, counts, best, best_score)
    return best.cpu().numpy()


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """(B, W) tokens of the required words, padded with -1."""
    width = max(1, *map(len, rows))
    padded = [[*row, *[_NONE] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long, device=device)


def _first(decoder: TreeDecoder, paths: Tensor) -> _Hypotheses:
    shape = (decoder.num_rows, 1)
    zeros = torch.zeros(shape, dtype=torch.long, device=decoder.device)
    return _Hypotheses(
        tokens=zeros[..., None][..., :0],
        nodes=paths,
        scores=torch.zeros(shape, device=decoder.device),
        matched=zeros,
        completed=torch.zeros(shape, dtype=torch.bool, device=decoder.device),
    )


def _allowed_log_probs(
    model: VIP5, states: Tensor, live: _Hypotheses, vocabulary: SentenceVocabulary, *, forbid_repeated_pairs: bool
) -> Tensor:
    """(B, H, V) log-probabilities over the allowed tokens; minus infinity for those that no hypothesis may take."""
    logits: Tensor = model.t5.lm_head(states).float()
    log_probs = torch.log_softmax(logits.masked_fill_(~vocabulary.allowed, -torch.inf), -1)
    rows, hypotheses = live.completed.nonzero(as_tuple=True)
    if len(rows):
        log_probs[rows, hypotheses] = log_probs[rows, hypotheses].masked_fill(vocabulary.continues, -torch.inf)
    if forbid_repeated_pairs and live.tokens.shape[2] > 1:  # a token that followed the last token before
        same = live.tokens[..., :-1] == live.tokens[..., -1:]
        followers = torch.where(same, live.tokens[..., 1:], PAD_ID)
        log_probs.scatter_(2, followers, -torch.inf)
    return log_probs


def _finish(  # noqa: PLR0917
    scores: Tensor, tokens: Tensor, eos_id: int, best: Tensor, best_score: Tensor, finished: Tensor
) -> Tensor:
    """Keeps the best finished hypothesis of every row, in place; returns the number of finished hypotheses."""
    top, index = scores.max(1)
    better = top > best_score
    chosen = gather_rows(tokens, index[:, None])[:, 0]
    rows = better.nonzero()[:, 0]
    best[rows] = PAD_ID
    best[rows, : tokens.shape[2]] = chosen[rows]
    best[rows, tokens.shape[2]] = eos_id
    best_score[rows] = top[rows]
    return finished + (scores > -torch.inf).sum(1)


def _extend(
    live: _Hypotheses, log_probs: Tensor, words: Tensor, counts: Tensor, *, beams: int, num_banks: int
) -> tuple[_Hypotheses, Tensor]:
    """The best continuations of every bank, and their last tokens (B, banks x beams)."""
    wanted = words.gather(1, live.matched.clamp(max=words.shape[1] - 1))  # (B, H) next token of the required word
    incomplete = live.matched < counts[:, None]
    forced = torch.where(incomplete, wanted, PAD_ID)[..., None]
    top = log_probs.topk(min(beams + 1, log_probs.shape[-1])).indices  # one may be the forced token
    token = torch.cat([top, forced], -1)  # (B, H, K + 2)
    gains = log_probs.gather(2, token)
    is_wanted, is_last = (token == forced) & incomplete[..., None], torch.zeros_like(token, dtype=torch.bool)
    is_last[..., -1] = True
    is_forced = is_wanted & is_last
    gains = gains.masked_fill((is_wanted & ~is_last) | (is_last & ~incomplete[..., None]), -torch.inf)
    scores = (live.scores[..., None] + gains).flatten(1)
    first = (token == words[:, :1, None]) & incomplete[..., None] & ~is_forced
    matched = torch.where(incomplete[..., None], first.long(), live.matched[..., None].expand_as(token))
    matched = torch.where(is_forced, live.matched[..., None] + 1, matched)
    reached = (incomplete[..., None] & (matched == counts[:, None, None])).flatten(1)
    flat_token, flat_matched = token.flatten(1), matched.flatten(1)
    parts = []
    for bank in range(num_banks):
        of_bank = scores.masked_fill(flat_matched != bank, -torch.inf)
        parts.append(of_bank.topk(min(beams, of_bank.shape[1])))
    score = torch.cat([part.values for part in parts], 1)
    index = torch.cat([part.indices for part in parts], 1)
    parent = index.div(token.shape[2], rounding_mode="floor")
    chosen = flat_token.gather(1, index)
    extended = _Hypotheses(
        tokens=torch.cat([gather_rows(live.tokens, parent), chosen[..., None]], -1),
        nodes=gather_rows(live.nodes, parent),
        scores=score,
        matched=flat_matched.gather(1, index),
        completed=reached.gather(1, index),
    )
    return extended, chosen


def _worst(extended: _Hypotheses, counts: Tensor, beams: int) -> Tensor:
    """(B,) lowest score in the last bank of each row; minus infinity if the bank is not full."""
    in_bank = extended.matched == counts[:, None]
    alive = in_bank & (extended.scores > -torch.inf)
    lowest = extended.scores.masked_fill(~alive, torch.inf).amin(1)
    return lowest.masked_fill(alive.sum(1) < beams, -torch.inf)


def _fall_back(live: _Hypotheses, counts: Tensor, best: Tensor, best_score: Tensor) -> None:
    """Rows without a finished hypothesis take their best unfinished one, with the required word if there is one."""
    complete = live.matched == counts[:, None]
    preferred = torch.where(complete, live.scores, live.scores - 1e9)
    index = preferred.argmax(1)
    chosen = gather_rows(live.tokens, index[:, None])[:, 0]
    rows = (best_score == -torch.inf).nonzero()[:, 0]
    best[rows, : chosen.shape[1]] = chosen[rows]
