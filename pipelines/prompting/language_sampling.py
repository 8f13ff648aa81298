"""Samples the language examples of a user: sentences of train reviews, and titles of items.

Reads the user's sampled sentences and the items whose titles are asked for. Returns `Draw`s without history, photos and
target item.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.prompts.language import TITLE, shows_title
from features.prompts.templates import Prompt
from pipelines.prompting.example_sampling import Draw, User
from pipelines.prompting.sources import Explanation, Sources


@dataclass(frozen=True, kw_only=True)
class LanguageMix:
    """The language prompts by what they need: `named` and `unnamed` write a sentence, with and without the title."""

    titles: tuple[Prompt, ...]
    named: tuple[Prompt, ...]
    unnamed: tuple[Prompt, ...]

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> "LanguageMix":
        """Sorts the prompts."""
        sentences = [prompt for prompt in prompts if prompt.target != TITLE]
        return cls(
            titles=tuple(prompt for prompt in prompts if prompt.target == TITLE),
            named=tuple(prompt for prompt in sentences if shows_title(prompt)),
            unnamed=tuple(prompt for prompt in sentences if not shows_title(prompt)),
        )


def language_draws(
    sources: Sources, prompts: Sequence[Prompt], titles_per_item: int
) -> Callable[[User], Iterator[Draw]]:
    """The function that samples the language examples of one user."""
    mix = LanguageMix.of(prompts)

    def sample(user: User) -> Iterator[Draw]:
        titled = np.repeat(sources.titled[user.user_id], titles_per_item).tolist()
        return train_language(user, mix, sources.sentences[user.user_id], titled, sources.has_title)

    return sample


def train_language(
    user: User, mix: LanguageMix, sentences: Sequence[Explanation], titled: Sequence[int],
    has_title: Callable[[int], bool],
) -> Iterator[Draw]:  # fmt: skip
    """One example per sentence and entry of `titled`; an item without a title is shown by its identifier.

    Example:
        a sentence with the word "strap" gives "Write about the strap of <item_5> ." with the sentence as target.
    """
    uniforms = user.generator.random(len(sentences) + len(titled)).tolist()
    for sentence, uniform in zip(sentences, uniforms, strict=False):
        choices = (*mix.named, *mix.unnamed) if has_title(sentence.item_id) else mix.unnamed
        yield Draw(user_id=user.user_id, prompt=_at(choices, uniform), asked=sentence.item_id, explanation=sentence)
    for item_id, uniform in zip(titled, uniforms[len(sentences) :], strict=True):
        yield Draw(user_id=user.user_id, prompt=_at(mix.titles, uniform), asked=item_id)


def _at(prompts: Sequence[Prompt], uniform: float) -> Prompt:
    return prompts[int(uniform * len(prompts))]
