"""Numbers that a pickle holds as NumPy scalars, without importing or calling what the pickle names.

Reads the names and arguments of a pickle's calls. Returns plain numbers; any other call is refused.
"""

import struct
from dataclasses import dataclass
from typing import Any

_CODES = {
    "f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "b1": "?",
}  # fmt: skip
_CALLS = {
    "numpy.dtype": "dtype",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "_codecs.encode": "encode",
}


@dataclass(frozen=True)
class Call:
    """One of the functions that NumPy's scalars are pickled with, by its name alone."""

    name: str


@dataclass(frozen=True)
class Kind:
    """The type of a scalar: a code of the module `struct`, and the order of its bytes."""

    code: str
    order: str = "<"


def call(name: str) -> Call | None:
    """The function of a dotted name; None if scalars do not need it."""
    return Call(_CALLS[name]) if name in _CALLS else None


def result(function: Any, arguments: Any) -> Any:
    """What a call gives: a type, the bytes of a text, or a number.

    Raises:
        ValueError: The call is not one that a NumPy scalar is pickled with.
    """
    match function, arguments:
        case Call("dtype"), (str(code), *_) if code in _CODES:
            return Kind(_CODES[code])
        case Call("encode"), (str(text), "latin1" | "latin-1"):
            return text.encode("latin-1")
        case Call("scalar"), (Kind() as kind, str() | bytes() as data):
            return struct.unpack(kind.order + kind.code, _bytes(data, struct.calcsize(kind.order + kind.code)))[0]
    raise ValueError("a call that is not of a NumPy number")


def built(value: Any, state: Any) -> Kind:
    """The type with the byte order that its pickled state names.

    Raises:
        ValueError: The value is not a type.
    """
    match value, state:
        case Kind(), (int(), str(order), *_) if order in {"<", ">", "|", "="}:
            return Kind(value.code, ">" if order == ">" else "<")
    raise ValueError("the state of an object that is not a NumPy type")


def _bytes(data: str | bytes, size: int) -> bytes:
    """The bytes of a scalar; a text holds them as Python 2's string was decoded: as UTF-8, else as Latin-1."""
    if isinstance(data, bytes):
        return data
    as_utf_8 = data.encode()
    return as_utf_8 if len(as_utf_8) == size else data.encode("latin-1")
