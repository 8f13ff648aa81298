"""Writes a profile as YAML with a comment for every decision; the file is meant to be read and edited."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import yaml

from flows.first_look.sizes import Choice

_COLUMN = 30
_LONG = 60
_WHY = {
    "columns": "what the columns of other names mean",
    "rating_range": "smallest and largest rating found",
    "photos": "folder of the photos; `.`: beside the files",
    "photo_keys": "the item of each photo",
    "vectors": "ready features, used instead of encoding photos",
    "vector_keys": "the item of each row",
}


def text_of(name: str, about: Sequence[str], entry: Mapping[str, Any], choices: Sequence[Choice]) -> str:
    """The content of `profiles/<name>.yaml`.

    Args:
        name: The dataset's name.
        about: Lines about the data, for the head of the file.
        entry: The values of `datasets.<name>`.
        choices: The parameters in the order of the file.
    """
    lines = [f"# {line}" for line in about]
    lines += [f"# Written by flows.new, yours to edit. make run PROFILE={name}", ""]
    own = [choice for choice in choices if choice.section == "dataset"]
    lines += [_line(choice.section, choice.value, choice.why) for choice in own]
    lines += ["", "datasets:", f"  {_scalar(name)}:"]
    lines += [_line(key, value, _WHY.get(key, ""), 4) for key, value in entry.items()]
    rest = [choice for choice in choices if choice.section != "dataset"]
    for section, group in groupby(rest, key=lambda choice: choice.section):
        members = list(group)
        lines.append("")
        if not members[0].key:
            lines += [_line(section, one.value, one.why) for one in members]
            continue
        lines.append(f"{section}:")
        lines += [_line(one.key, one.value, one.why, 2) for one in members]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, why: str, indent: int = 0) -> str:
    line = f"{' ' * indent}{key}: {_scalar(value)}"
    if len(line) > _LONG and why:
        return f"{' ' * indent}# {why}\n{line}"
    return f"{line.ljust(_COLUMN - 1)} # {why}" if why else line


def _scalar(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
