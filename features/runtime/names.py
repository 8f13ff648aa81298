"""Names of datasets, tokenizers and profiles: words that are safe as a folder, in a shell and in DVC's expressions.

Reads names from the command line or from YAML; returns them as text. Imports the standard library only.
"""

import re
import unicodedata

from features.errors import ParamsError

LONGEST = 64
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{LONGEST - 1}}}")
_RESERVED = {"raw"}  # data/raw holds the dumps of all datasets


def is_name(text: str) -> bool:
    """Whether `text` may name a dataset, a tokenizer or a profile."""
    return _NAME.fullmatch(text) is not None and text not in _RESERVED


def checked_name(name: object, what: str) -> str:
    """`name` as text, after checking it.

    Args:
        name: The name as it was given. YAML turns a key such as 2023 into a whole number, which is taken as its text.
        what: What it names, for the message: dataset, tokenizer or profile.

    Raises:
        ParamsError: The name could mean something else to a shell, a file system or DVC; names a safe one.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str):
        raise ParamsError(f"{what} name {name!r} ({type(name).__name__})", "a text", f"write it in quotes: '{name}'")
    if is_name(name):
        return name
    raise ParamsError(
        f"{what} name {name!r}",
        f"at most {LONGEST} letters, digits, _ and -, the first no -"
        + (f", and not {name}, the folder of the dumps" if name in _RESERVED else ""),
        f"name it {safe_name(name, what)} everywhere: in params.yaml, in profiles/ and in the command",
    )


def safe_name(text: str, what: str = "dataset") -> str:
    """The nearest safe name.

    Example:
        >>> safe_name("Home&Kitchen"), safe_name("Vidéo.Games"), safe_name("...")
        ('home_kitchen', 'video_games', 'my_dataset')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    safe = re.sub(r"[^a-z0-9-]+", "_", plain).strip("_-")[:LONGEST].rstrip("_-")
    return f"{safe}_data" if safe in _RESERVED else safe or f"my_{what}"
