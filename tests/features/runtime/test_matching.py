import logging

import pytest

from features.errors import InputError
from features.runtime.matching import Matching, match_names


def check(found: Matching, min_share: float = 0.01) -> None:
    found.check(min_share, parameter="images.min_match_share", action="rename them")


def test_one_line_has_all_counts_and_a_name_of_each_side() -> None:
    found = match_names("photos", ["B1", "X1", "X2"], ["B1", "B2"], used=1)
    assert found.line == (
        "photos: 1 of 3 used; 2 belong to no item of the catalogue (one is X1); 1 of 2 items have none (one is B2)"
    )  # fmt: skip
    assert found.notes()["line"] == found.line
    assert found.share == 0.5


def test_items_outside_the_catalogue_are_told_apart() -> None:
    found = match_names("photos", ["B1", "B9", "X1"], ["B1"], used=1, known={"B1", "B9"})
    assert "2 belong to no item of the catalogue, 1 of them to others of the dump (one is X1)" in found.line
    assert not found.mostly_unknown


@pytest.mark.parametrize(
    ("names", "known", "warned"),
    [
        (["B1", "X1", "X2"], None, False),  # half of the items have one
        (["B1", "X1", "X2"], {"B1", "B2"}, True),
        (["B1", "B9", "X2"], {"B9"}, False),
        (["B1", "B2"], {"B1", "B2"}, False),
    ],
)
def test_most_names_of_no_item_are_a_warning(
    caplog: pytest.LogCaptureFixture, names: list[str], known: set[str] | None, warned: bool
) -> None:
    caplog.set_level(logging.INFO, "vip5")
    found = match_names("photos", names, ["B1", "B2"], used=1, known=known)
    check(found)
    assert [(record.levelname == "WARNING", record.message.startswith(found.line)) for record in caplog.records] == [
        (warned, True)
    ]


def test_hardly_any_match_stops_and_zero_allows_it() -> None:
    keys = [f"B{number}" for number in range(500)]
    found = match_names("vectors", [f"X{number}" for number in range(499)] + ["B7"], keys, used=1)
    with pytest.raises(InputError) as caught:
        check(found)
    assert str(caught.value) == (
        "found vectors: 1 of 500 used; 499 belong to no item of the catalogue (one is X0); "
        "499 of 500 items have none (one is B0); "
        "expected vectors of the catalogue's items (images.min_match_share = 0.01); "
        "do: rename them; if this is right, set images.min_match_share to 0"
    )
    check(found, 0)


def test_few_photos_or_a_small_catalogue_are_normal() -> None:
    many = [f"B{number}" for number in range(1000)]
    check(match_names("photos", ["B1"], many, used=1))
    check(match_names("photos", many, ["B1"], used=1))


def test_nothing_at_all_stops() -> None:
    with pytest.raises(InputError, match="photos: 0 of 0 used"):
        check(match_names("photos", [], ["B1"], used=0))
