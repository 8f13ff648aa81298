"""Chooses the parameters of a new dataset from its counts; every choice carries its reason.

Trade-off: rules of thumb from the shipped profiles (gift_cards, musical_instruments, toys), sized so that a run takes
minutes on two cores for a small dump; no search.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.first_look.counts import Counts

LEAST_TEXTS = 200
"""Reviews with a text from which sentences can be learnt."""
LEAST_TITLED = 0.5
_MOST_ITEMS_OF_TEACHER = 20_000
_EXAMPLES = 25_000  # next-item examples that pretrain sees: about ten minutes of one core


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One line of a profile: `section.key: value`, or a top-level `section: value` without a key."""

    section: str
    key: str = ""
    value: Any
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Has:
    """Which kinds of data there are."""

    texts: bool
    titles: bool
    photos: bool

    @property
    def families(self) -> list[str]:
        """The prompt families that the data can teach."""
        return ["sequential", "direct", *(["explanation"] if self.texts else [])]


def choices(name: str, entry: Mapping[str, Any], counts: Counts) -> list[Choice]:
    """Every parameter of the profile in the order of the file, without the entry of `datasets`."""
    has = Has(
        texts=counts.texts >= LEAST_TEXTS,
        titles=counts.titled >= LEAST_TITLED,
        photos=bool(entry.get("photos") or entry.get("vectors")),
    )
    return [
        Choice(section="dataset", value=name),
        *_data(counts),
        *_features(has),
        *_prompts(counts, has),
        *_backbone(counts, has),
        *_pretrain(counts, has),
        *_train(counts, has),
        *_evaluate(has),
    ]


def rating_range(counts: Counts) -> list[float] | None:
    """The range to write in the entry of `datasets`, None if it is the usual 1 to 5 or there are no ratings."""
    if counts.rating_range is None or counts.rating_range[0] == counts.rating_range[1]:
        return None
    least, most = counts.rating_range
    return None if least >= 1 and most <= 5 else [least, most]


def _data(counts: Counts) -> list[Choice]:
    core = counts.core
    kept = f"{core.users:,} users, {core.items:,} items, {core.interactions:,} interactions stay"
    why = kept if core.k == 5 else f"the largest core that is worth training on: {kept}"
    negatives = min(99, core.least_unseen)
    enough = "as published" if negatives == 99 else f"a user has only {core.least_unseen} unseen items"
    return [
        Choice(section="sequences", key="k_core", value=core.k, why=why),
        Choice(
            section="candidates", key="num_negatives", value=negatives, why=f"ranked beside the bought item: {enough}"
        ),
    ]


def _features(has: Has) -> list[Choice]:
    if not has.photos:
        return [Choice(section="num_visual_tokens", value=1, why='no photos: one "no photo" token an item')]
    return [Choice(section="num_visual_tokens", value=2, why="for each photo, as published")]


def _prompts(counts: Counts, has: Has) -> list[Choice]:
    core = counts.core
    history = 5 if core.interactions > 100_000 else 10
    candidates = min(20, core.least_unseen + 1)
    made = [
        Choice(
            section="prompts",
            key="max_history",
            value=history,
            why=f"newest items; a user has {core.interactions / core.users:.0f} on average",
        ),
        Choice(section="prompts", key="direct_per_user", value=1, why="sized for two cores (published: 10)"),
        Choice(section="prompts", key="num_candidates", value=candidates, why="in training"),
    ]
    if core.users > 3000:
        many = f"of {core.users:,}, sampled by the seed; null ranks all"
        made.append(Choice(section="prompts", key="max_valid_users", value=3000, why=many))
        made.append(Choice(section="prompts", key="max_test_users", value=3000, why=many))
    rows = 15_000 if has.texts else 0
    why = "sentences of train reviews" if has.texts else f"only {counts.texts:,} reviews have a text"
    made.append(Choice(section="prompts", key="max_language_rows", value=rows, why=why))
    made.append(Choice(section="prompts", key="titles_per_item", value=1 if has.titles else 0, why=_titled(counts)))
    return made


def _titled(counts: Counts) -> str:
    return f"{counts.titled:.0%} of these items have a title"


def _backbone(counts: Counts, has: Has) -> list[Choice]:
    large = _is_large(counts.core.items)
    width = 128 if large else 96
    scratch = {
        "d_model": width, "d_ff": 2 * width, "num_heads": 4, "d_kv": width // 4, "num_layers": 2,
        "num_decoder_layers": 1, "embedding_scale": 1.0, "init": "recency",
    }  # fmt: skip
    pieces = 2500 if has.texts else 1500
    return [
        Choice(section="backbone", key="scratch", value=scratch, why="a small T5 from scratch"),
        Choice(
            section="backbone", key="vocabulary_size", value=pieces, why="pieces of a tokenizer trained on the prompts"
        ),
    ]


def _pretrain(counts: Counts, has: Has) -> list[Choice]:
    core = counts.core
    batch = 128 if core.interactions > 50_000 else 64
    epochs = max(1, min(20, round(_EXAMPLES / core.interactions)))
    schedule: dict[str, Any] = {"epochs": epochs}
    if core.interactions > 200_000:
        schedule["max_steps"] = 1500
    start = "titles" if has.titles else "spectral"
    made = [
        Choice(
            section="pretrain",
            key="families",
            value=[*has.families, *(["language"] if has.texts else [])],
            why=_why_families(has),
        ),
        Choice(
            section="pretrain",
            key="item_embedding_init",
            value=start,
            why="random ones only reach the level of popularity in minutes",
        ),
    ]
    if core.items <= _MOST_ITEMS_OF_TEACHER:
        teacher = {"distillation_weight": 0.8, "embedding_distillation_steps": 300 if _is_large(core.items) else 200}
        made.append(Choice(section="pretrain", key="teacher", value=teacher, why="the ridge regression EASE"))
    return [
        *made,
        Choice(
            section="pretrain",
            key="schedule",
            value=schedule,
            why=f"about {epochs * core.interactions:,} next-item examples",
        ),
        Choice(section="pretrain", key="batching", value={"batch_size": batch, "order": "shuffled"}),
        Choice(section="pretrain", key="optimizer", value={"learning_rate": 0.001}),
        Choice(section="pretrain", key="objective", value=_objective(core.interactions)),
        Choice(section="pretrain", key="validation", value=_validation(core.users, 200 if batch == 128 else 50)),
    ]


def _is_large(num_items: int) -> bool:
    """Whether a catalogue takes more steps to fit the item embeddings to the teacher."""
    return num_items > 3000


def _why_families(has: Has) -> str:
    return "texts beside next items, candidates and explanations" if has.texts else "there are no texts to learn from"


def _objective(interactions: int) -> dict[str, Any]:
    dropout = 0.1 if interactions < 20_000 else 0.0
    return {"dropout": dropout, "mask_seen_items": True, "span_noise_rate": 0.8}


def _validation(users: int, every_steps: int) -> dict[str, Any]:
    return {"examples_per_family": min(users, 2000), "every_steps": every_steps, "checkpoint_metric": "hr@10"}


def _train(counts: Counts, has: Has) -> list[Choice]:
    core = counts.core
    batch = 128 if core.interactions > 50_000 else 64
    steps = core.interactions // batch
    schedule: dict[str, Any] = {"epochs": 2} if steps < 400 else {"epochs": 1, "max_steps": 400 if has.photos else 160}
    rate = 0.0005 if steps < 400 or has.photos else 0.0001
    return [
        Choice(section="train", key="small_embeddings", value="trained"),
        Choice(section="train", key="families", value=has.families),
        Choice(
            section="train", key="schedule", value=schedule, why="adapters and projection; the backbone stays frozen"
        ),
        Choice(section="train", key="batching", value={"batch_size": batch, "order": "shuffled"}),
        Choice(section="train", key="optimizer", value={"learning_rate": rate}),
        Choice(section="train", key="objective", value=_objective(core.interactions)),
        Choice(section="train", key="validation", value=_validation(core.users, 80 if batch == 128 else 50)),
    ]


def _evaluate(has: Has) -> list[Choice]:
    start = "titles" if has.titles else "spectral"
    made = [
        Choice(section="evaluate", key="sasrec", value={"start": start}, why="starts from the same item embeddings")
    ]
    if has.texts:
        sentences = {"beams": 4, "min_tokens": 12}
        made.append(Choice(section="evaluate", key="explanations", value=sentences, why="greedy sentences stop early"))
    if not has.titles:
        gate = {"baselines": ["popularity", "item_knn"]}
        made.append(Choice(section="retrain", key="gate", value=gate, why="without titles there is no BM25 baseline"))
    return made
