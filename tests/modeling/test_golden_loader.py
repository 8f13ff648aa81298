"""The reference implementation's loader on the real T5 vocabulary: every id of every record."""

import json
from typing import Any

import pytest

from modeling.data.tokenizer import VIP5Tokenizer
from tests.modeling.golden import GOLDEN, T5_TOKENIZER, need

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def share() -> dict[str, Any]:
    need(T5_TOKENIZER)
    loaded: dict[str, Any] = json.loads(need(GOLDEN / "loader_share.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    ("part", "count", "max_source_tokens"),
    [("records", 290, 1024), ("extra_missing_title_or_name", 10, 1024), ("truncated_at_128_tokens", 6, 128)],
)
def test_ids_are_the_originals(share: dict[str, Any], part: str, count: int, max_source_tokens: int) -> None:
    tokens = VIP5Tokenizer.load(T5_TOKENIZER, max_source_tokens=max_source_tokens, truncate="end")
    records = share[part]
    assert len(records) == count
    encoded = tokens.encode([record["source_text"] for record in records])
    targets = tokens.encode_targets([record["target_text"] for record in records], share["max_target_tokens"])
    for record, source, target in zip(records, encoded, targets, strict=True):
        assert source.input_ids.tolist() == record["input_ids"]
        assert source.whole_word_ids.tolist() == record["whole_word_ids"]
        assert source.category_ids.tolist() == record["category_ids"]
        assert target.tolist() == record["target_ids"]
        assert 1 / len(target) == record["loss_weight"]


def test_the_vocabulary_is_t5s_and_identifiers_follow_it(share: dict[str, Any]) -> None:
    tokens = VIP5Tokenizer.load(T5_TOKENIZER)
    assert (tokens.size, tokens.photo_id) == (32100, share["placeholder_id"]) == (32100, 32099)
    grown = tokens.with_identifiers(["<item_2>", "<item_10>"])
    assert grown.encode(["buy <item_2>, <item_10>"])[0].input_ids.tolist() == [805, 32101, 3, 6, 32100, 1]
    assert tokens.encode_targets(["yes", "no"], 64)[0].tolist() == [4273, 1]
