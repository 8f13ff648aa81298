"""The thresholds that a category without an aspect is told make one."""

import re
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipelines.aspects import no_aspect, two_passes
from pipelines.aspects.config import Params

NOUNS = st.dictionaries(st.sampled_from(["tone", "lid", "cord"]), st.tuples(*[st.integers(0, 9)] * 3), min_size=1)


@given(NOUNS, st.integers(40, 9000))
def test_the_thresholds_give_an_aspect(nouns: dict[str, tuple[int, int, int]], num_train: int) -> None:
    counts = {
        "reviews": {noun: numbers[0] + numbers[1] for noun, numbers in nouns.items()},
        "opinions": {noun: numbers[0] for noun, numbers in nouns.items()},
        "titles": {noun: numbers[2] for noun, numbers in nouns.items()},
    }
    params = Params(min_reviews=50, min_review_share=0.5, min_opinion_share=1.0)

    def found(params: Params) -> frozenset[str]:
        least = max(params.min_reviews, params.min_review_share * num_train)
        return two_passes.frequent_aspects(
            [counts], min_reviews=least, min_opinion_share=params.min_opinion_share,
            max_title_share=params.max_title_share,
        )  # fmt: skip

    assert not found(params)
    text = no_aspect.remedy([counts], params, num_train)
    named: dict[str, Any] = {name: float(value) for name, value in re.findall(r"explanations\.(\w+) to (\S+)", text)}
    if named:
        named["min_reviews"] = int(named.get("min_reviews", params.min_reviews))
        assert found(replace(params, **named))
    else:
        assert text.startswith("add reviews")
