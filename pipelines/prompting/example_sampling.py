"""Samples the examples of a user: the random draws of every prompt family, as plain functions.

Reads one user's sequence, the catalogue size and a seed named for (split, family, round, user). Returns `Draw`s.
Trade-off: one generator per user and round instead of one per row (5 microseconds each); the order of calls determines
the examples and must not change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from features.prompts import rendering
from features.prompts.templates import Prompt
from pipelines.negatives.unseen_items import unseen_items
from pipelines.prompting.sources import Explanation

YES, NO = "yes", "no"


@dataclass(kw_only=True)
class User:
    """Sampling input of one user: the items in time order, the catalogue size and the seed for this purpose."""

    user_id: int
    items: Sequence[int]
    num_items: int
    seed: int

    @cached_property
    def generator(self) -> np.random.Generator:
        """The user's generator, created lazily (20 microseconds)."""
        return np.random.Generator(np.random.PCG64(self.seed))

    def keys(self, count: int) -> list[int]:
        """Random keys of the candidate lists of `count` rows."""
        return [(self.seed + row) % 2**64 for row in range(count)]


@dataclass(slots=True, kw_only=True)
class Draw:
    """One example before rendering. `asked` is the item of {item_id}, {title} and {photo} in the source.

    `key` seeds the candidates of a prompt that lists them; they are sampled for many rows at once (`list_candidates`).
    """

    user_id: int
    prompt: Prompt
    variant: str = "published"
    history: Sequence[int] = ()
    separator: str = rendering.COMMA
    key: int | None = None
    candidates: np.ndarray | None = None
    target: int | None = None
    asked: int | None = None
    answer: str = ""
    explanation: Explanation | None = None
    target_rating: str = ""


@dataclass(frozen=True, kw_only=True)
class PromptMix:
    """The prompts of one family that training samples from; `share` (0 to 1) is the probability of a yes/no prompt."""

    yes_no: tuple[Prompt, ...]
    others: tuple[Prompt, ...]
    share: float

    @classmethod
    def of(cls, prompts: Sequence[Prompt], yes_no_share: float | None) -> "PromptMix":
        """Builds the mix of the given prompts; with a share of None all prompts are equally likely, as published."""
        yes_no = tuple(prompt for prompt in prompts if prompt.asks_yes_no)
        share = len(yes_no) / max(len(prompts), 1) if yes_no_share is None else yes_no_share
        return cls(yes_no=yes_no, others=tuple(p for p in prompts if not p.asks_yes_no), share=share)

    def sample(self, group: float, within: float) -> Prompt:
        """The prompt that two uniform draws from [0, 1) select.

        Example:
            With yes_no_share 0.25, group 0.1 selects a yes/no prompt and group 0.3 another one.
        """
        chosen = self.yes_no if self.yes_no and (group < self.share or not self.others) else self.others
        return chosen[int(within * len(chosen))]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Truncation of histories."""

    max_history: int | None
    kept: Literal["newest", "oldest"]

    def cut(self, past: Sequence[int]) -> Sequence[int]:
        """Truncates `past` to at most `max_history` items, oldest first.

        Example:
            >>> Window(max_history=2, kept="newest").cut([5, 17, 203])
            [17, 203]
        """
        if self.max_history is None or len(past) <= self.max_history:
            return past
        return past[-self.max_history :] if self.kept == "newest" else past[: self.max_history]


def train_positions(
    length: int, mode: Literal["all_positions", "last_three"], per_user: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """(first, target) index pairs from 0: the history is items first..target-1. Excludes the last two items.

    all_positions: every training item but the first is a target once. last_three: `per_user` samples as published
    (spec 3.2): the target is one of the last three training items; the history starts at item 1, 2 or 3.

    Example:
        a sequence of 6 with all_positions gives [(0, 1), (0, 2), (0, 3)].
    """
    if mode == "all_positions":
        return [(0, target) for target in range(1, length - 2)]
    pairs = []
    for end_draw, start_draw in generator.random((per_user, 2)).tolist() if length >= 5 else ():
        low, high = max(2, length - 5), length - 3
        end = low + int(end_draw * (high - low + 1))
        start = int(start_draw * min(3, end - 1))
        pairs.append((start, end))
    return pairs


def num_train_positions(lengths: np.ndarray, mode: str, per_user: int) -> np.ndarray:
    """Number of pairs that `train_positions` returns, vectorised over users."""
    return np.maximum(lengths - 3, 0) if mode == "all_positions" else np.where(lengths >= 5, per_user, 0)


def make_yes_no(draw: Draw, user: User, coin: float) -> None:
    """Turns `draw` into a yes/no question: about its target, or with probability 1/2 about an unseen item."""
    draw.asked, draw.answer = draw.target, YES
    bought = set(user.items)
    if coin < 0.5 and len(bought) < user.num_items:
        draw.asked, draw.answer = unseen_items(user.generator, bought, user.num_items, 1)[0], NO


def train_sequential(
    user: User, mix: PromptMix, window: Window, mode: Literal["all_positions", "last_three"], per_user: int
) -> Iterator[Draw]:
    """Samples the sequential training examples of one user and round."""
    pairs = train_positions(len(user.items), mode, per_user, user.generator)
    for (first, target), uniforms in zip(
        pairs, user.generator.random(4 * len(pairs)).reshape(-1, 4).tolist(), strict=True
    ):
        draw = Draw(user_id=user.user_id, prompt=mix.sample(uniforms[0], uniforms[1]), target=user.items[target])
        draw.history = window.cut(user.items[first:target])
        draw.separator = rendering.COMMA if uniforms[2] < 0.5 else rendering.ARROW
        if draw.prompt.asks_yes_no:
            make_yes_no(draw, user, uniforms[3])
        yield draw


def train_direct(
    user: User, mix: PromptMix, window: Window, *, variants: Sequence[str], per_user: int
) -> Iterator[Draw]:
    """Samples the direct training examples of one user and round.

    The target is uniform over the training items; in the history variant over all but the first, and the history is the
    items before the target. Negatives exclude the complete sequence, as published.
    """
    num_train = len(user.items) - 2
    if num_train < 1:
        return
    keys = user.keys(per_user)
    for key, uniforms in zip(keys, user.generator.random(5 * per_user).reshape(-1, 5).tolist(), strict=True):
        variant = variants[int(uniforms[0] * len(variants))] if num_train > 1 else "published"
        first = 1 if variant == "history" else 0
        target = first + int(uniforms[1] * (num_train - first))
        prompt = mix.sample(uniforms[2], uniforms[3])
        draw = Draw(user_id=user.user_id, prompt=prompt, variant=variant, target=user.items[target])
        if variant == "history":
            draw.history = window.cut(user.items[:target])
        if prompt.asks_yes_no:
            make_yes_no(draw, user, uniforms[4])
        else:
            draw.key = key
        yield draw


def train_explanation(user: User, mix: PromptMix, explanations: Sequence[Explanation]) -> Iterator[Draw]:
    """One training example per explanation; the rating in a target is jittered (spec 3.7)."""
    within = user.generator.random(len(explanations)).tolist()
    normals = user.generator.standard_normal(len(explanations)).tolist()
    for explanation, uniform, normal in zip(explanations, within, normals, strict=True):
        yield Draw(
            user_id=user.user_id,
            prompt=mix.sample(1.0, uniform),
            asked=explanation.item_id,
            explanation=explanation,
            target_rating=rendering.jittered_stars(explanation.rating, normal),
        )


def evaluate_sequential(user: User, target: int, prompts: Sequence[Prompt], window: Window) -> Iterator[Draw]:
    """One example per prompt: all items before index `target` are the history; lists are joined by commas."""
    for prompt in prompts:
        draw = Draw(user_id=user.user_id, prompt=prompt, target=user.items[target])
        draw.history = window.cut(user.items[:target])
        if prompt.asks_yes_no:
            make_yes_no(draw, user, user.generator.random())
        yield draw


def evaluate_direct(user: User, target: int, prompts: Sequence[tuple[Prompt, str]], window: Window) -> Iterator[Draw]:
    """One example per (prompt, variant): the stored negatives and the target, shuffled for each example."""
    for key, (prompt, variant) in zip(user.keys(len(prompts)), prompts, strict=True):
        draw = Draw(user_id=user.user_id, prompt=prompt, variant=variant, target=user.items[target])
        if variant == "history":
            draw.history = window.cut(user.items[:target])
        if prompt.asks_yes_no:
            make_yes_no(draw, user, user.generator.random())
        else:
            draw.key = key
        yield draw


def evaluate_explanation(
    user_id: int, explanations: Sequence[Explanation], prompts: Sequence[Prompt]
) -> Iterator[Draw]:
    """One example per prompt and explanation; the rating in a target is a whole number."""
    for explanation in explanations:
        for prompt in prompts:
            yield Draw(
                user_id=user_id,
                prompt=prompt,
                asked=explanation.item_id,
                explanation=explanation,
                target_rating=rendering.stars(explanation.rating),
            )
