"""The order of a p5 folder beside the times of its reviews."""

import logging
from pathlib import Path

import pytest

from features.store import tables
from tests.pipelines.test_records import BUNDLE_REVIEW, ingest_bundle, rows


def test_a_p5_order_against_known_times_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """U1 bought B, then A by the file; by the reviews A, then B."""
    later = BUNDLE_REVIEW | {"reviewerID": "U1", "asin": "B", "unixReviewTime": 1_400_000_000}
    sooner = BUNDLE_REVIEW | {"reviewerID": "U1", "asin": "A", "unixReviewTime": 1_300_000_000}
    with caplog.at_level(logging.WARNING, "vip5"):
        context = ingest_bundle(tmp_path, {}, {"train": [later, sooner]})
    found = tables.read_manifest(context.table("records/reviews"))["notes"]["order"]
    example = "user U1: A of 2011-03-13 after B of 2014-05-13"
    assert found == {"users": 1, "contradicting": 1, "example": example}
    assert f"the order of 1 of 1 users contradicts the times of their reviews, such as {example}" in caplog.text
    assert [row["item_key"] for row in rows(context, "reviews") if row["user_key"] == "U1"] == ["B", "A"]


@pytest.mark.parametrize("sooner", [1_400_000_001, 1_400_000_000])
def test_a_p5_order_that_fits_the_times_is_noted_quietly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sooner: int
) -> None:
    reviews = [
        BUNDLE_REVIEW | {"reviewerID": "U1", "asin": item, "unixReviewTime": time}
        for item, time in (("B", 1_400_000_000), ("A", sooner))
    ]
    with caplog.at_level(logging.WARNING, "vip5"):
        context = ingest_bundle(tmp_path, {}, {"train": reviews})
    assert tables.read_manifest(context.table("records/reviews"))["notes"]["order"] == {"users": 1, "contradicting": 0}
    assert "contradicts" not in caplog.text
