"""One error tree: every failure that a person can mend, told as found, expected, what to do.

Enters: nothing. Leaves: exceptions whose text is one line and whose `exit_code` a scheduler can trust.
A programming error stays a plain Python exception with its traceback; only mendable failures are here.
"""


class VIP5Error(Exception):
    """A failure that the person at the keyboard can mend.

    Args:
        found: what was met, with the name that the person used.
        expected: what would have been right.
        action: the next thing to type or change.

    Example:
        >>> str(ParamsError("parameter records.k_cor", "one of: k_core", "write k_core"))
        'found parameter records.k_cor; expected one of: k_core; do: write k_core'
    """

    exit_code = 2

    def __init__(self, found: str, expected: str, action: str) -> None:
        self.found, self.expected, self.action = found, expected, action
        super().__init__(found, expected, action)

    def __str__(self) -> str:
        return f"found {self.found}; expected {self.expected}; do: {self.action}".replace("\n", " ")


class ParamsError(VIP5Error):
    """A parameter is unknown, missing, ill-typed or out of range."""


class InputError(VIP5Error):
    """A dump, folder or file is absent or is not what its name says."""

    exit_code = 3


class TableError(VIP5Error):
    """A table is absent, half-written, of another schema, or breaks a rule of its schema."""

    exit_code = 4


class ModelError(VIP5Error):
    """A checkpoint is absent or belongs to another dataset, backbone or set of item identifiers."""

    exit_code = 5


class TrainingError(VIP5Error):
    """Training or extraction could not go on (memory, non-finite loss)."""

    exit_code = 6


class GateError(VIP5Error):
    """A trained model must not be promoted: something leaks, or a table breaks its contract."""

    exit_code = 7


class BusyError(VIP5Error):
    """Another run holds what this one needs; later it will be free."""

    exit_code = 8


class CommandError(VIP5Error):
    """A command that this one runs (DVC, a stage) ended with an error, which it has told itself."""

    exit_code = 9
