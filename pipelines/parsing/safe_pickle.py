"""Reads pickles of plain containers without executing code.

Reads a pickle file of any protocol. Returns dictionaries, lists, tuples, sets, texts, bytes, numbers, booleans and
None; NumPy numbers become plain ones; anything else is one error that names what the file requests.
Trade-off: a custom interpreter without operations that import or call, at about 1.5 microseconds per operation. A
restricted `pickle.Unpickler` would be faster, but a file of 20 bytes can make it allocate gigabytes (a memo index, a
length).
"""

import mmap
import pickletools
import struct
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from features.errors import InputError
from pipelines.parsing import numpy_scalars

MAX_OPERATIONS = 50_000_000  # the largest published file takes 20 million
_MAX_BYTES = 1 << 30
_CALLS = frozenset({
    "REDUCE", "BUILD", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "BYTEARRAY8",
    "NEXT_BUFFER", "READONLY_BUFFER",
})  # fmt: skip
_LITERALS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
})  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MAKERS: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()
_KEY_LIMIT = 1 << 60


def without(path: Path) -> str:
    """What to do about a pickle that cannot be used: the dataset works without it."""
    return f"remove {path.name} from the dataset's `reviews` (it is optional), or bring the publisher's own file"


def read(path: Path, max_operations: int = MAX_OPERATIONS) -> Any:
    """Reads a pickle file.

    Python 2 strings are decoded as UTF-8, else as Latin-1 (protocol 0 must be ASCII). Dictionary keys and set members
    must be texts, bytes, numbers or None.

    Raises:
        InputError: The file requests a class or function, is damaged, or is too large.
    """
    if not 0 < path.stat().st_size <= _MAX_BYTES:
        raise InputError(f"{path} of {path.stat().st_size:,} bytes", f"1 to {_MAX_BYTES:,} bytes", without(path))
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset: int | None = 0
        machine = _Machine()
        try:
            for count, (operation, argument, at) in enumerate(pickletools.genops(data)):  # type: ignore[arg-type]
                offset = at
                if operation.name == "STOP":
                    return machine.result()
                if count == max_operations:
                    raise _RefusedError(f"more than {max_operations:,} operations")
                machine.do(operation.name, argument)
        except _RefusedError as refused:
            raise InputError(
                f"{path} with {refused} at byte {offset}",
                "a pickle of plain containers: it may hold no class and call nothing",
                f"do not open it with pickle; {without(path)}",
            ) from None  # fmt: skip
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            message = f"{path} that is not a complete pickle ({str(error)[:80]}) after byte {offset}"
            raise InputError(message, "a pickle of plain containers", without(path)) from error
    raise InputError(f"{path} that is not a complete pickle", "a pickle of plain containers", without(path))


class _RefusedError(Exception):
    """The file requests more than plain containers."""


class _Machine:
    """Interpreter state: a stack of values and marks, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The single remaining value."""
        if len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} values are left")
        return _value(_plain(self.stack[0]))

    def do(self, name: str, argument: Any) -> None:
        """Executes one operation."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}:
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = _plain(stack[-1])
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _MAKERS:
            stack.append(_MAKERS[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in {"STRING", "BINSTRING", "SHORT_BINSTRING"}:
            stack.append(_python_2(argument))
        elif name in _TUPLES:
            members = [_plain(stack.pop()) for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(members)))
        elif name == "POP":
            stack.pop()
        elif name == "DUP":
            stack.append(_plain(stack[-1]))
        elif name not in {"PROTO", "FRAME"}:
            self._gather(name, argument)

    def _gather(self, name: str, argument: Any) -> None:
        """Executes operations that consume the values above a mark, a pair, or a single value."""
        match name:
            case "APPEND" | "SETITEM":
                taken = [_plain(self.stack.pop()) for _ in range(1 if name == "APPEND" else 2)][::-1]
                _put(self.stack[-1], taken, name)
            case "APPENDS" | "SETITEMS" | "ADDITEMS":
                taken = self._above_mark()
                _put(self.stack[-1], taken, name)
            case "LIST":
                self.stack.append(self._above_mark())
            case "TUPLE":
                self.stack.append(tuple(self._above_mark()))
            case "FROZENSET":
                self.stack.append(frozenset(map(_key, self._above_mark())))
            case "DICT":
                taken = self._above_mark()
                self.stack.append({})
                _put(self.stack[-1], taken, "SETITEMS")
            case "POP_MARK":
                self._above_mark()
            case "GLOBAL" | "STACK_GLOBAL" | "REDUCE" | "BUILD":
                self._number(name, argument)
            case _:
                raise _RefusedError(self._named(name, argument))

    def _number(self, name: str, argument: Any) -> None:
        """Executes the operations that NumPy numbers are pickled with; refuses all other names and calls."""
        if name in {"GLOBAL", "STACK_GLOBAL"}:
            words = self.stack[-2:] if name == "STACK_GLOBAL" else str(argument).split(" ")
            function = numpy_scalars.call(".".join(map(str, words)))
            if function is None:
                raise _RefusedError(self._named(name, argument))
            if name == "STACK_GLOBAL":
                del self.stack[-2:]
            self.stack.append(function)
            return
        taken, value = _plain(self.stack.pop()), _plain(self.stack.pop())
        try:
            made = numpy_scalars.built(value, taken) if name == "BUILD" else numpy_scalars.result(value, taken)
        except (ValueError, struct.error):
            raise _RefusedError(self._named(name, argument)) from None
        self.stack.append(made)

    def _above_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def _named(self, name: str, argument: Any) -> str:
        """Description of a refused operation."""
        if name in {"GLOBAL", "INST"}:
            return f"the global {str(argument).replace(' ', '.')[:120]}"
        if name == "STACK_GLOBAL":
            return f"the global {'.'.join(map(str, self.stack[-2:]))[:120]}"
        return f"the operation {name}" if name in _CALLS else f"the unknown operation {name}"


def _put(container: Any, taken: list[Any], name: str) -> None:
    """Adds members to a list, set or dictionary, as the operation requires."""
    if name.startswith("APPEND") and isinstance(container, list):
        container.extend(map(_value, taken))
    elif name == "ADDITEMS" and isinstance(container, set):
        container.update(map(_key, taken))
    elif name.startswith("SETITEM") and isinstance(container, dict) and len(taken) % 2 == 0:
        container.update(zip(map(_key, taken[::2]), map(_value, taken[1::2]), strict=True))
    else:
        raise ValueError(f"{name} to a {type(container).__name__}")


def _key(value: Any) -> Hashable:
    if value is not None and not isinstance(value, str | bytes | int | float):
        raise ValueError(f"a {type(value).__name__} as a key")
    if isinstance(value, int) and abs(value) >= _KEY_LIMIT:  # greater ones can share a hash, each with all others
        raise ValueError(f"a key of {value.bit_length()} bits")
    return value


def _plain(value: Any) -> Any:
    if value is _MARK:
        raise ValueError("a mark where a value should be")
    return value


def _value(value: Any) -> Any:
    if isinstance(value, numpy_scalars.Call | numpy_scalars.Kind):
        raise ValueError("a function or type where a value should be")
    return value


def _python_2(text: str) -> str:
    """Decodes a Python 2 byte string, which is passed as Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
