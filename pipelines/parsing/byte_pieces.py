"""The bytes of a dump file: as they are, inflated from gzip, or of the member of a zip archive.

Yields pieces of at most 64 kB; memory does not depend on the file's size or compression ratio. The kind of a file is
decided by its first bytes, not by its name.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from isal import isal_zlib

from features.errors import InputError
from pipelines.recognition.beginnings import is_left_behind

PIECE_BYTES = 1 << 16  # decompressed at once, whatever the compression ratio; lost at most by a damaged archive
_CHUNK_BYTES = 1 << 17
_FREE_BYTES = 1 << 23  # exempt from the ratio check: small files are harmless
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31  # zlib's code for a gzip header and trailer
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_PARQUET_MAGIC = b"PAR1"
_OTHER_MAGICS = (b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"7z\xbc\xaf")
_SNIFFED_BYTES = 512
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DAMAGED: Any = (isal_zlib.error, zlib.error, zipfile.BadZipFile, EOFError)  # isal types its error as an instance


def check_gzip(path: Path) -> bool:
    """Whether the content is what the name says, an archive for .gz; False for text that a browser inflated.

    Raises:
        InputError: A file named .gz is empty, a saved web page, or in another binary format.
    """
    with path.open("rb") as stream:
        begin = stream.read(_SNIFFED_BYTES)
    if path.suffix != ".gz" or begin.startswith((_GZIP_MAGIC, *_ZIP_MAGICS, _PARQUET_MAGIC)):
        return True
    reason = _unreadable(begin)
    if reason is None:
        return False
    raise InputError(f"{path} that is not gzip (it begins with {begin[:12]!r})", "a gzip file", reason)


def _unreadable(begin: bytes) -> str | None:
    """What to do about a file that begins so and is neither an archive nor text; None for text."""
    if not begin:
        return "download the file and ingest it again: this one is empty"
    if begin.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "download the file itself and ingest it again: this is a web page, such as an error or a login page"
    if b"\0" in begin or begin.startswith(_OTHER_MAGICS):
        return "unpack the file, compress it with gzip and ingest it again: this is another binary format"
    return None


def pieces(path: Path, max_decompression_ratio: float) -> Iterator[bytes | None]:
    """The bytes of a file, decompressed; a damaged archive ends with None.

    A truncated archive gives all bytes before its end, one with wrong bytes or a wrong checksum up to a piece less.

    Raises:
        InputError: A file named .gz is not gzip; a zip archive cannot be opened or has several members; or the file
            decompresses to too many bytes.
    """
    check_gzip(path)
    with path.open("rb") as stream:
        begin = stream.read(4)
        stream.seek(0)
        if begin.startswith(_GZIP_MAGIC):
            compressed, inflated = stream, _inflated(stream)
        elif begin in _ZIP_MAGICS:
            compressed, inflated = stream, zip_member(path, stream)
        else:
            yield from _plain(stream)
            return
        given = 0
        try:
            for piece in inflated:
                given += len(piece)
                if given > _FREE_BYTES and given > max_decompression_ratio * compressed.tell():
                    raise InputError(
                        f"{path} that decompresses to more than {max_decompression_ratio:g} times its size "
                        f"({compressed.tell():,} bytes to {given:,})",
                        "a dump, which decompresses to 3 to 10 times its size",
                        "inspect the file; if it is a dump, set records.max_decompression_ratio to 1100",
                    )  # fmt: skip
                yield piece
        except _DAMAGED:
            yield None


def _plain(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(PIECE_BYTES):
        yield piece


def zip_member(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The bytes of the member of a zip archive that has the archive's name without `.zip`, or of its only member.

    Raises:
        InputError: the archive is incomplete or encrypted, or there is no such member.
    """
    again = "unpack it and list the unpacked file instead"
    try:
        with zipfile.ZipFile(stream) as archive, archive.open(_chosen(path, archive)) as member:
            while piece := member.read(PIECE_BYTES):
                yield piece
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or a method that Python lacks
        raise InputError(f"{path} that cannot be unpacked ({error})", "a plain zip archive", again) from error


def _chosen(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = {
        member.filename: member
        for member in archive.infolist()
        if not member.is_dir() and not is_left_behind(member.filename)
    }
    named = [name for name in members if PurePosixPath(name).name == path.stem]
    found = named or list(members)
    if len(found) != 1:
        shown = ", ".join(sorted(members)[:5]) or "nothing"
        raise InputError(
            f"{path} that holds {len(members)} files ({shown})",
            f"one file, or one named {path.stem}",
            "unpack it and list the unpacked file instead",
        )
    return members[found[0]]


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """The decompressed members of a gzip file, in pieces; zeros between members are padding.

    Raises:
        EOFError: The file ends within a member.
    """
    raw = stream.read(_CHUNK_BYTES)
    while raw:
        inflater = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
        while not inflater.eof:
            piece = inflater.decompress(raw, PIECE_BYTES)
            raw = inflater.unconsumed_tail
            if piece:
                yield piece
            elif not raw and not inflater.eof:
                raw = stream.read(_CHUNK_BYTES)
                if not raw:
                    raise EOFError
        raw = inflater.unused_data.lstrip(b"\0")
        while not raw and (more := stream.read(_CHUNK_BYTES)):
            raw = more.lstrip(b"\0")


def beginning(path: Path) -> bytes:
    """The first piece of a file without a byte-order mark, empty if there is none."""
    return (next(pieces(path, float("inf")), None) or b"").removeprefix(BYTE_ORDER_MARK)
