"""Generated explanations, graded by eye: `python -m benchmarks.graded_sentences write FILE`, then `... count FILE`.

`write` reads `data/<dataset>/explanations_generated` and `explanations` and writes a Markdown table of rows sampled by
the seed, with an empty last column for the grade: right, half right, wrong or not a sentence. `count` reads the graded
table and prints the number of rows by prompt and grade.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from features import schema
from features.runtime.stage import Places
from features.store.tables import read_table
from modeling.evaluation.generate_explanations import features_of
from modeling.reporting.sentence_examples import sample_rows

GRADES = ("right", "half right", "wrong", "not a sentence")
COLUMNS = ("row", "prompt", "feature", "generated", "written by the user", "grade")


def graded_table(places: Places, count: int, *, seed: int) -> list[str]:
    """Returns the lines of a Markdown table of `count` generated sentences without grades."""
    features = features_of(read_table(places.table("explanations"), schema.EXPLANATIONS))
    rows = sample_rows(read_table(places.table("explanations_generated"), schema.GENERATED), count, seed=seed)
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for number, row in enumerate(rows.to_pylist(), start=1):
        words = features.get((row["user_id"], row["item_id"], row["reference"]), [])
        cells = [str(number), row["prompt_id"], ", ".join(words), row["generated"] or "(empty)", row["reference"], ""]
        lines.append(_line([" ".join(cell.split()).replace("|", "/") for cell in cells]))
    return lines


def counts(lines: Sequence[str]) -> Counter[tuple[str, str]]:
    """Returns the number of rows by prompt and grade.

    Raises:
        ValueError: a row has no grade or an unknown one.
    """
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if len(cells) != len(COLUMNS) or not cells[0].isdecimal():
            continue
        if cells[-1] not in GRADES:
            raise ValueError(f"row {cells[0]}: grade {cells[-1]!r}; one of: {', '.join(GRADES)}")
        found[cells[1], cells[-1]] += 1
    return found


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Write a table to grade, or print the counts of a graded one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graded_sentences", description=main.__doc__)
    parser.add_argument("action", choices=("write", "count"))
    parser.add_argument("file", type=Path, help="Markdown file")
    parser.add_argument("--dataset", default="sample", help="dataset of the sentences (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=100, metavar="N", help="rows to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.action == "write":
        lines = graded_table(Places(dataset=arguments.dataset), arguments.rows, seed=arguments.seed)
        arguments.file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return 0
    found = counts(arguments.file.read_text(encoding="utf-8").splitlines())
    sys.stdout.write(f"{_line(('prompt', *GRADES))}\n{_line(['---'] * (1 + len(GRADES)))}\n")
    for prompt in sorted({prompt for prompt, _ in found}):
        sys.stdout.write(_line([prompt, *(str(found[prompt, grade]) for grade in GRADES)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
