import numpy as np

from features.encoders.joined_features import joined
from features.vision.image_decoding import Rejection
from features.vision.image_loader import Found, Outcome

A, B = Outcome(digest="a", kind="JPEG"), Outcome(digest="b", kind="PNG")
BAD = Outcome(digest="b", rejection=Rejection(reason="empty", detail="0 bytes"))


def found(vectors: list[list[float]], *outcomes: Outcome) -> Found:
    rows = {outcome.digest: row for row, outcome in enumerate(outcomes)}
    return Found(rows=rows, outcomes=list(outcomes), vectors=np.array(vectors, np.float32))


def test_parts_have_length_one_and_stand_side_by_side():
    first, second = found([[3, 4], [0, 5]], A, B), found([[7], [0.1]], B, A)
    raw = joined([first, second], normalise=False)
    np.testing.assert_allclose(raw.vectors[[raw.rows["a"], raw.rows["b"]]], [[0.6, 0.8, 1], [0, 1, 1]], atol=1e-6)
    whole = joined([first, second], normalise=True)
    np.testing.assert_allclose(np.linalg.norm(whole.vectors, axis=1), [1, 1], atol=1e-6)
    assert whole.vectors.dtype == np.float32


def test_a_photo_must_be_usable_by_every_encoder():
    whole = joined([found([[1], [1]], A, B), found([[1], [0]], A, BAD)], normalise=True)
    assert whole.outcomes[whole.rows["a"]] == A
    assert whole.outcomes[whole.rows["b"]] == BAD


def test_one_encoder_alone_is_left_as_it_is():
    only = found([[3, 4]], A)
    assert joined([only], normalise=True) is only


def test_without_photos_there_are_no_rows():
    nothing = Found(rows={}, outcomes=[], vectors=np.zeros((0, 2), np.float32))
    whole = joined([nothing, nothing], normalise=True)
    assert (whole.rows, whole.outcomes, whole.vectors.shape) == ({}, [], (0, 4))
