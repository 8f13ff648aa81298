"""The shell lines that the documentation promises, and those that the journeys type."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

REASONS = (
    "network",
    "GPU",
    "cluster",
    "hours",
    "service manager",
    "root",
    "CI",
)  # CI: what runs the journeys themselves
_SHELLS = {"bash", "sh", "shell", "console"}
_MARK = re.compile(r"<!--\s*not run here:\s*(.*?)\s*-->")


@dataclass(frozen=True)
class Line:
    """One command of a fenced shell block; `reason` is why no journey runs it, or None."""

    page: str
    number: int
    command: str
    reason: str | None


def documented_lines(page: Path, root: Path) -> list[Line]:
    """The commands of every fenced shell block of a Markdown page.

    A comment `<!-- not run here: REASON -->` directly above a block is the reason for all of its lines. Lines that end
    in a backslash are joined; comments after two blanks and a hash are left out.
    """
    found: list[Line] = []
    reason = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block" and (mark := _MARK.search(token.content)):
            reason = mark[1]
            continue
        if token.type == "fence" and token.info.split(" ")[0] in _SHELLS:
            start = (token.map or [0])[0] + 2
            text = token.content.replace("\\\n", " ")
            for number, raw in enumerate(text.splitlines(), start=start):
                command = " ".join(re.sub(r"(^|\s\s+)#.*$", "", raw).removeprefix("$ ").split())
                if command:
                    found.append(Line(page.relative_to(root).as_posix(), number, command, reason))
        if token.type != "html_block" and token.level == 0:
            reason = None
    return found


def typed_lines(folder: Path) -> set[str]:
    """The first argument of every call of `types` and `starts` in the journeys: literal lines of the documentation."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if called and node.func.attr in {"types", "starts"} and node.args:  # type: ignore[attr-defined]
                first = node.args[0]  # type: ignore[attr-defined]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(" ".join(first.value.split()))
    return found
