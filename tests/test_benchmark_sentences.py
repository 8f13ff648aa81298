"""The table of sentences that are graded by eye."""

from pathlib import Path

import pytest

from benchmarks.graded_sentences import GRADES, counts, graded_table, main
from features import schema
from features.runtime.stage import Places
from features.store.tables import Provenance, from_rows, write_table


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(dataset="tiny", root=tmp_path)
    made = Provenance(stage="test", params={})
    reviews = [
        {
            "user_id": user, "item_id": 1, "rating": 5.0, "headline": None, "feature": "lid", "split": "test",
            "sentence": f"Lid | number {user}.",
        }
        for user in range(1, 6)
    ]  # fmt: skip
    generated = [
        {
            "user_id": user, "prompt_id": "C-3", "item_id": 1, "generated": "" if user == 1 else "A lid.",
            "reference": f"Lid | number {user}.",
        }
        for user in range(1, 6)
    ]  # fmt: skip
    for table, rows in ((schema.EXPLANATIONS, reviews), (schema.GENERATED, generated)):
        write_table(places.table(table.name), table, from_rows(table, rows), made)
    return places


def test_written_rows_are_counted_by_prompt_and_grade(places: Places) -> None:
    lines = graded_table(places, 9, seed=1)
    assert lines[2] == "| 1 | C-3 | lid | (empty) | Lid / number 1. |  |"
    assert len(graded_table(places, 2, seed=1)) == 4
    graded = [
        line.removesuffix(" |  |") + f" | {grade} |" for line, grade in zip(lines[2:], [*GRADES, "right"], strict=True)
    ]
    assert counts([*lines[:2], *graded]) == {("C-3", grade): 1 + (grade == "right") for grade in GRADES}
    with pytest.raises(ValueError, match="row 1: grade ''"):
        counts(lines)


def test_the_command_prints_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "graded.md"
    path.write_text("| 1 | C-3 | lid | A lid. | The lid. | half right |\n", encoding="utf-8")
    assert main(["count", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| C-3 | 0 | 1 | 0 | 0 |"
