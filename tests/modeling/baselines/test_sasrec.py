"""SASRec: causal, learns from order alone, stops early on valid, and reports when it is undertrained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.runtime.seeds import rng
from modeling.baselines import sasrec
from modeling.baselines.counting import item_knn, ranks_among_unseen
from modeling.baselines.run_baselines import undertraining_note
from modeling.collaborative.spectral import spectral_embeddings
from modeling.config.sasrec import SasRecParams
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories, known_before_test
from tests.modeling.baselines.test_counting import interactions

QUICK = SasRecParams(width=16, num_heads=2, epochs=15, patience=30, batch_size=32, dropout=0.1, embedding_dropout=0.1)
NUM_ITEMS = 40
USERS = np.arange(1, 201)


@pytest.fixture(scope="module")
def cycles() -> UserHistories:
    """200 users who walk along a ring of 40 items: the next item depends on the order alone."""
    generator = rng(3, "ring")
    starts, lengths = generator.integers(0, NUM_ITEMS, 200), generator.integers(5, 12, 200)
    return known_before_test(
        interactions({
            user: [(start + step) % NUM_ITEMS + 1 for step in range(length)]
            for user, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True), 1)
        })
    )  # fmt: skip


def first_hits(scorer: sasrec.Scorer, histories: UserHistories) -> float:
    return float((ranks_among_unseen(scorer, histories, USERS, NUM_ITEMS) == 1).mean())


@pytest.mark.parametrize("negatives", [None, 8])
def test_order_is_learned_that_co_occurrence_cannot_tell(cycles: UserHistories, negatives: int | None) -> None:
    trained = sasrec.train_sasrec(cycles, NUM_ITEMS, replace(QUICK, num_negatives=negatives), seed=1)
    assert first_hits(trained.scorer, cycles) > 0.9
    assert first_hits(item_knn(cycles, NUM_ITEMS), cycles) < 0.7
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]


def test_a_position_does_not_see_what_follows() -> None:
    torch.manual_seed(1)
    model = sasrec.SasRec(QUICK, NUM_ITEMS).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.mix.weight)
        torch.nn.init.normal_(block.outer.weight)
    rows = torch.tensor([[1, 2, 3, 4], [1, 2, 9, 0]])
    with torch.no_grad():
        states = model(rows)
        torch.testing.assert_close(states[0, :2], states[1, :2])
        torch.testing.assert_close(model(rows[1:, :3])[0], states[1, :3])
    assert not torch.allclose(states[0, 2], states[1, 2])


def test_the_same_seed_gives_the_same_scores(cycles: UserHistories) -> None:
    few = replace(QUICK, epochs=2)
    one, two, other = (sasrec.train_sasrec(cycles, NUM_ITEMS, few, seed=s).scorer(USERS[:3]) for s in (1, 1, 2))
    assert one.tolist() == two.tolist()
    assert one.tolist() != other.tolist()


def test_training_reads_no_valid_and_no_test_item(cycles: UserHistories, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[torch.Tensor] = []
    forward = sasrec.SasRec.forward
    monkeypatch.setattr(sasrec, "_validated", lambda *_: {"hr@10": 0.0, "ndcg@10": 0.0})
    monkeypatch.setattr(sasrec.SasRec, "forward", lambda self, rows: read.append(rows) or forward(self, rows))
    asked: list[torch.Tensor] = []
    loss = sasrec._loss
    monkeypatch.setattr(sasrec, "_loss", lambda *args: asked.append(args[2]) or loss(*args))
    sasrec.train_sasrec(cycles, NUM_ITEMS, replace(QUICK, epochs=1), seed=1)
    train = cycles.train.lengths[cycles.train.lengths > 0]
    assert sum(int((rows > 0).sum()) for rows in read) <= train.sum()
    assert sum(len(targets) for targets in asked) == (train - 1).sum()


def test_early_stopping_keeps_the_best_epoch(cycles: UserHistories, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.1, 0.5, 0.3, 0.2, 0.9])
    kept: list[float] = []

    def validated(model: sasrec.SasRec, *_: object) -> dict[str, float]:
        kept.append(float(model.items.weight.detach().sum()))
        return {"hr@10": 0.0, "ndcg@10": next(values)}

    monkeypatch.setattr(sasrec, "_validated", validated)
    final: list[sasrec.SasRec] = []
    scorer_of = sasrec.scorer_of
    monkeypatch.setattr(sasrec, "scorer_of", lambda model, *rest: final.append(model) or scorer_of(model, *rest))
    trained = sasrec.train_sasrec(cycles, NUM_ITEMS, replace(QUICK, epochs=9, patience=2), seed=1)
    assert trained.stopped == "no better"
    assert len(trained.curve) == 4
    assert float(final[0].items.weight.detach().sum()) == kept[1]


def test_a_time_limit_ends_training_and_makes_the_rival_unfair(cycles: UserHistories) -> None:
    trained = sasrec.train_sasrec(cycles, NUM_ITEMS, replace(QUICK, max_seconds=0.0), seed=1)
    assert (trained.stopped, len(trained.curve)) == ("max_seconds", 1)
    note = undertraining_note(trained, "sample", np.array([1, 1]))
    assert not note["fair"]
    assert note["why_not"] == ["training ended at its limit of seconds while the valid split still rose"]


def test_on_a_known_set_a_fair_rival_reaches_what_others_reach() -> None:
    trained = sasrec.Trained(scorer=lambda users: np.zeros((len(users), 1), np.float32), curve=[],
                             stopped="no better", start="spectral")  # fmt: skip
    weak = np.array([1] + [0] * 19)
    assert undertraining_note(trained, "toys", weak)["why_not"] == [
        "HR@10 0.0500 is below the 0.090 that it reaches elsewhere"
    ]
    assert undertraining_note(trained, "toys", np.array([1, 0, 10]))["fair"]
    assert undertraining_note(trained, "sample", weak)["fair"]


def test_spectral_vectors_tell_groups_of_buyers_apart() -> None:
    generator = rng(1, "groups")
    rows = [[], *((generator.permutation(10)[:6] + 1 + 10 * (user % 2)).tolist() for user in range(60))]
    vectors = spectral_embeddings(Ragged.from_rows(rows), 21, 2, seed=1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    likeness = vectors[:20] @ vectors[:20].T
    assert likeness[:10, :10].min() > 0.9 > 0.5 > np.abs(likeness[:10, 10:]).max()
    assert np.isfinite(vectors[20]).all()  # an item that nobody bought


def test_item_vectors_may_start_from_titles_too(cycles: UserHistories) -> None:
    """Opposite items of the ring share a title word and no buyer."""
    titles = [f"number {item} of the series{item % 20}" for item in range(NUM_ITEMS)]
    untrained = replace(QUICK, epochs=1, learning_rate=0.0, num_negatives=8)
    opposite = (np.array([cycles.known.row(user)[-1] - 1 for user in USERS.tolist()]) + 20) % NUM_ITEMS
    found = {}
    for start in ("spectral", "titles"):
        trained = sasrec.train_sasrec(cycles, NUM_ITEMS, replace(untrained, start=start), seed=1, titles=titles)
        assert trained.start == start
        scores = trained.scorer(USERS)
        found[start] = float((scores.argsort(1).argsort(1)[USERS - 1, opposite] / NUM_ITEMS).mean())
    assert found["titles"] > 0.75 > 0.6 > found["spectral"]


def test_spectral_vectors_are_the_singular_vectors() -> None:
    generator = rng(2, "small")
    rows = [[], *(np.sort(generator.permutation(9)[:4] + 1).tolist() for _ in range(30))]
    train = Ragged.from_rows(rows)
    dense = np.zeros((31, 9))
    for user, items in enumerate(rows):
        dense[user, np.array(items, int) - 1] = 1
    dense /= np.sqrt(np.maximum(dense.sum(1, keepdims=True), 1) * dense.sum(0))
    right = np.linalg.svd(dense)[2][:3].T
    expected = right / np.linalg.norm(right, axis=1, keepdims=True)
    found = spectral_embeddings(train, 9, 3, seed=1)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"width": 10, "num_heads": 4}, {"epochs": 0}, {"dropout": 1.0}, {"temperature": 0.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="sasrec"):
        SasRecParams(**wrong)  # type: ignore[arg-type]
