"""Recognises what a file or folder holds from its beginning, for messages and for `flows.new`.

Reads at most about one megabyte. Returns a `Look`. The content decides; the name only where contents are alike.
"""

import re
from pathlib import Path

from pipelines.recognition import beginnings, binaries, folders, lines, objects, tables
from pipelines.recognition.beginnings import Beginning
from pipelines.recognition.looks import Kind, Look, nothing, some

__all__ = ["Kind", "Look", "look"]

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LFS = "version https://git-lfs.github.com/spec/"
_HTML = re.compile(r"<!doctype html|<html|<head[ >]|<body[ >]|<!-- *html", re.IGNORECASE)
_TAG = re.compile(r"<(\?xml|[A-Za-z!])")


def look(path: Path) -> Look:
    r"""What the file or folder at `path` looks like; never raises for any content.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "ratings.csv"
        ...     _ = path.write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
        ...     found = look(path)
        >>> found.format, found.kind, found.summary
        ('ratings', 'reviews', 'a CSV table with the columns userId, movieId, rating, timestamp')
    """
    try:
        if path.is_dir():
            return folders.look_at_folder(path)
        one = beginnings.read_beginning(path)
        if one.data.startswith(b"PK\x03\x04"):
            return _look_at_zip(path)
        return _look_at(one, path)
    except OSError as error:
        return nothing(f"something that cannot be read ({error.strerror or type(error).__name__})")


def _look_at(one: Beginning, path: Path) -> Look:
    if not one.data.strip():
        return nothing(
            f"a damaged archive{one.inside}" if one.inside and not one.whole else f"an empty file{one.inside}"
        )
    found = binaries.look_at_bytes(one, path)
    if found is not None:
        return found
    if one.data.startswith(UTF_16_MARKS):
        return nothing(f"text in UTF-16{one.inside}; write it in UTF-8 (in Excel: save as CSV UTF-8)")
    text = _text(one)
    if text is None:
        return nothing(f"binary data of an unknown kind{one.inside}")
    return _look_at_text(text, one)


def _text(one: Beginning) -> str | None:
    """The beginning as text, None if it is binary; bytes that are not UTF-8 are replaced."""
    data = one.data
    if b"\0" in data[:4096]:
        return None
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    strange = sum(letter == "\ufffd" or (letter < " " and letter not in "\t\r\n\f") for letter in text[:4096])
    return text if strange <= 0.05 * min(len(text), 4096) else None


def _look_at_text(text: str, one: Beginning) -> Look:
    start = text.lstrip()
    if start.startswith("<") and _HTML.search(start[:2000]):
        return nothing(f"an HTML page, perhaps an error page saved in place of the file{one.inside}")
    if start.startswith("<") and _TAG.match(start):
        return nothing(f"XML{one.inside}")
    if start.startswith(_LFS):
        return nothing(f"a pointer of Git LFS, not the file; fetch it with `git lfs pull`{one.inside}")
    if start.startswith(("{", "[")) and (found := objects.look_at_objects(start, one.inside)) is not None:
        return found
    if start.startswith("["):
        return _look_at_list(start, one.inside)
    found = tables.look_at_table(text, one.inside, one.name) or lines.look_at_lines(text, one.inside, one.name)
    if found is not None:
        return found
    first = next((line.strip() for line in start.splitlines()), "")
    return nothing(f"text of an unknown layout that begins with {first[:60]!r}{one.inside}")


def _look_at_list(start: str, inside: str) -> Look:
    """The look of a JSON list without objects: perhaps one key for each row of a matrix."""
    keys = re.findall(r'"([A-Za-z0-9_-]{1,64})"', start[:20000])
    if len(keys) > 1:
        return Look(
            format=None, kind="vector_keys", summary=f"a JSON list of keys such as {some(tuple(keys), 2)}{inside}"
        )
    return nothing(f"a JSON list{inside}")


def _look_at_zip(path: Path) -> Look:
    names = beginnings.zip_members(path)
    if not names:
        return nothing("a zip archive that is empty, damaged or of too many files")
    own = [name for name in names if name.rpartition("/")[2] == path.stem]
    looks = [_look_at(one, path) for one in beginnings.member_beginnings(path, own[:1] or names)]
    if len(looks) == 1 and looks[0].format is not None:
        return looks[0]
    if any(found.kind == "photos" for found in looks):
        return nothing(f"a zip archive of photos, such as {names[0][:80]}; unpack it")
    if len(looks) > 1:
        return nothing(f"a zip archive of {some(tuple(names))}; unpack it")
    first = f": {looks[0].summary}" if looks else ", none of which can be read"
    return nothing(f"a zip archive of {some(tuple(names), 3)}{first}")
