import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import schema
from features.store.tables import from_rows
from modeling.metrics.calibration import bin_rows, calibration, summary, wilson


def predictions(rows: list[tuple[int, int, int, float]]) -> pa.Table:
    names = ("user_id", "rank", "item_id", "score")
    made = [dict(zip(names, (*row[:3], float(np.log(row[3]))), strict=True)) | {"prompt_id": "A-3"} for row in rows]
    return from_rows(schema.PREDICTIONS, made)


def test_what_a_rank_promises_stands_beside_what_it_keeps() -> None:
    found = calibration(
        predictions([(1, 1, 5, 0.5), (1, 2, 6, 0.02), (2, 1, 6, 0.2), (2, 2, 5, 0.02)]), np.array([0, 5, 5])
    )
    assert found is not None
    assert found.predicted.tolist() == pytest.approx([0.35, 0.02])
    assert found.observed.tolist() == [0.5, 0.5]
    assert [(one.low, one.high, one.num_predictions, one.observed) for one in found.bins] == [
        (0.01, 0.03, 2, 0.5), (0.1, 0.3, 1, 0.0), (0.3, 1.0, 1, 1.0),
    ]  # fmt: skip
    assert found.error == pytest.approx((2 * 0.48 + 0.2 + 0.5) / 4)
    assert summary(found) == pytest.approx({"predicted_hr@10": 0.37, "hr@10": 1.0, "error": 0.415})
    assert bin_rows(found)[1] == ["0.1 to 0.3", "1", "0.2000", "0.0000 [0.0000, 0.7935]"]


def test_a_model_that_keeps_its_promises_has_no_error() -> None:
    rows = [(user, 1, 1 if user <= 25 else 2, 0.25) for user in range(1, 101)]
    found = calibration(predictions(rows), np.array([0] + [1] * 100))
    assert found is not None
    assert found.error == pytest.approx(0.0, abs=1e-6)


def test_a_certain_prediction_lies_in_the_last_bin() -> None:
    found = calibration(predictions([(1, 1, 5, 1.0)]), np.array([0, 5]))
    assert found is not None
    assert [(one.low, one.num_predictions) for one in found.bins] == [(0.3, 1)]


def test_no_predictions_have_no_calibration() -> None:
    assert calibration(predictions([]), np.zeros(3, np.int64)) is None


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_a_share(count: int, share: float) -> None:
    share = round(share * count) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1
