"""Every shell line of README.md and docs/** is typed by a journey, or says why it is not."""

from pathlib import Path

import pytest

from tests.journeys.documented import REASONS, Line, documented_lines, typed_lines

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LINES = [line for page in PAGES for line in documented_lines(page, ROOT)]


def test_every_documented_command_is_run_or_says_why_not() -> None:
    typed = typed_lines(Path(__file__).parent)
    missing = [line for line in LINES if line.reason is None and line.command not in typed]
    assert missing == [], "\n".join(f"{line.page}:{line.number}: {line.command}" for line in missing)


@pytest.mark.parametrize("line", [line for line in LINES if line.reason], ids=lambda line: f"{line.page}:{line.number}")
def test_a_line_that_is_not_run_names_one_of_the_reasons(line: Line) -> None:
    assert line.reason in REASONS


def test_the_readme_promises_commands_at_all() -> None:
    assert len([line for line in LINES if line.page == "README.md"]) >= 5
