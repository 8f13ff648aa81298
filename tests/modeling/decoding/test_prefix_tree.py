"""The prefix tree: each item is reached by its own tokens only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import TableError
from modeling.decoding.prefix_tree import PAD, ROOT, PrefixTree, build_tree

EOS = 1
CODES = st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=4).map(tuple), min_size=1, max_size=30, unique=True)


def walk(tree: PrefixTree, tokens: list[int]) -> int | None:
    """The node that `tokens` lead to, or None where the tree has no such edge."""
    node = ROOT
    for token in tokens:
        edges = range(tree.first_edge[node], tree.first_edge[node + 1])
        following = [int(tree.edge_node[e]) for e in edges if tree.edge_token[e] == token]
        if not following:
            return None
        (node,) = following
    return node


def test_three_items_make_two_branches() -> None:
    tree = build_tree([(7, 8), (7, 9), (5, 8)], eos_id=EOS)
    assert (tree.num_items, tree.depth, tree.single_step) == (3, 2, False)
    assert tree.tokens.tolist() == [[7, 8], [7, 9], [5, 8]]
    assert tree.first_edge.tolist() == [0, 2, 3, 5, 5, 5, 5]
    assert tree.edge_token.tolist() == [5, 7, 8, 8, 9]
    assert tree.item.tolist() == [0, 0, 0, 3, 1, 2]


def test_only_prefixes_of_other_identifiers_end_with_eos() -> None:
    tree = build_tree([(4,), (4, 6), (5,), (4, 6, 7)], eos_id=EOS)
    assert tree.tokens.tolist() == [[4, EOS, PAD], [4, 6, EOS], [5, PAD, PAD], [4, 6, 7]]


def test_one_token_identifiers_are_ranked_in_a_single_step() -> None:
    assert build_tree([(4,), (9,), (5,)], eos_id=EOS).single_step


@given(CODES)
def test_each_item_is_reached_by_its_tokens_alone(codes: list[tuple[int, ...]]) -> None:
    tree = build_tree(codes, eos_id=EOS)
    assert sorted(tree.item[tree.item > 0].tolist()) == list(range(1, len(codes) + 1))
    assert (np.diff(tree.first_edge)[tree.item > 0] == 0).all()
    for item, code in enumerate(codes, start=1):
        begins_another = any(other != code and other[: len(code)] == code for other in codes)
        node = walk(tree, [*code, EOS] if begins_another else list(code))
        assert node is not None
        assert tree.item[node] == item


def test_two_items_with_one_identifier_are_rejected() -> None:
    with pytest.raises(TableError, match="items 1 and 3 with the same"):
        build_tree([(7, 8), (7, 9), (7, 8)], eos_id=EOS)
    with pytest.raises(TableError, match="without identifier tokens"):
        build_tree([(7,), ()], eos_id=EOS)
    with pytest.raises(TableError, match="items 1 and 2 with the same"):
        build_tree([(7,), (7,), (7, 8)], eos_id=EOS)
