"""The exception hierarchy: every error a user can fix, reported as found, expected and what to do.

Each exception prints as one line and carries an `exit_code` for schedulers. Programming errors stay plain Python
exceptions with a traceback.
"""


class VIP5Error(Exception):
    """Base class of errors that a user can fix.

    Args:
        found: What was found, by the name that the user gave it.
        expected: What would be valid.
        action: What to type or change next.

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
    """A dump, folder or file is missing or not in the format that its name implies."""

    exit_code = 3


class TableError(VIP5Error):
    """A table is missing, half-written, of another schema, or violates a rule of its schema."""

    exit_code = 4


class ModelError(VIP5Error):
    """A checkpoint is missing or belongs to another dataset, backbone or set of item identifiers."""

    exit_code = 5


class TrainingError(VIP5Error):
    """Training or feature extraction cannot continue (out of memory, non-finite loss)."""

    exit_code = 6


class GateError(VIP5Error):
    """A trained model must not be promoted: data leaks, or a table violates its contract."""

    exit_code = 7


class BusyError(VIP5Error):
    """Another run holds the lock; try again later."""

    exit_code = 8


class CommandError(VIP5Error):
    """A child command (DVC, a stage) failed and has already reported its error."""

    exit_code = 9
