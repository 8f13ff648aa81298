"""Faults of the machine end in one line with an exit code, whichever library meets them."""

import errno
import pwd
import resource
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from features.errors import InputError, ParamsError, TableError
from features.runtime.faults import environment_fault, environment_faults
from features.runtime.stage import Context, main
from flows import export
from flows.exporting import prepared_tables
from tests.features.runtime.test_stage import PARAMS, Params

FRAME = pl.DataFrame({"a": [10, 20, 30]})
WRITERS: dict[str, Callable[[], object]] = {
    "python": lambda: Path("x").write_text("0123456789", encoding="utf-8"),
    "polars": lambda: FRAME.write_parquet("x"),
    "polars_csv": lambda: FRAME.write_csv("x"),
    "pyarrow": lambda: pq.write_table(FRAME.to_arrow(), "x"),
    "safetensors": lambda: save_file({"a": np.zeros(9)}, "x"),
}


@contextmanager
def small_files() -> Iterator[None]:
    """Lets no file of this process grow beyond eight bytes, as on a disk that is all but full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("library", WRITERS)
def test_a_full_disk_is_one_line(library: str, workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    def run(_params: Params, _context: Context) -> int:
        """Writes rows."""
        with small_files():
            WRITERS[library]()
        return 1

    path = workspace / "params.yaml"
    path.write_text(PARAMS, encoding="utf-8")
    assert main("records", Params, (), run, ["--params", str(path)]) == 4
    assert "that cannot be written (File too large); expected a disk with room; do: " in caplog.messages[-1]
    assert "\n" not in caplog.messages[-1]


def test_libraries_that_wrap_the_error_are_understood() -> None:
    fault = environment_fault(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert isinstance(fault, TableError)
    assert str(fault).startswith("found a file that cannot be written (No space left on device); expected a disk")


def test_a_file_of_another_owner_names_the_user_id() -> None:
    fault = environment_fault(PermissionError(errno.EACCES, "Permission denied", "data/toys"), InputError)
    assert isinstance(fault, InputError)
    assert "found data/toys that user id " in str(fault)
    assert 'do: sudo chown -R "$(id -u)" . in the repository' in str(fault)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[Errno -3] Temporary failure in name resolution"),
        httpx.ReadTimeout(""),
        urllib.error.URLError("unreachable"),
        OSError("We couldn't connect to 'https://huggingface.co' to load the files"),
    ],
)
def test_a_server_out_of_reach_is_one_line(error: Exception) -> None:
    try:
        raise RuntimeError("loading failed") from error
    except RuntimeError as raised:
        fault = environment_fault(raised)
    assert isinstance(fault, InputError)
    assert "found a server that cannot be reached (" in str(fault)


def test_a_user_id_without_a_name_is_one_line() -> None:
    with pytest.raises(InputError, match="without a name or home folder"), environment_faults():
        pwd.getpwuid(2**31 - 7)


def test_programming_errors_keep_their_traceback() -> None:
    with pytest.raises(KeyError, match="k_core"), environment_faults():
        raise KeyError("k_core")
    with pytest.raises(FileNotFoundError), environment_faults():
        Path("/nowhere/at/all").read_bytes()
    with pytest.raises(ParamsError), environment_faults():
        raise ParamsError("a", "b", "c")


def test_commands_of_flows_report_them_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.flows.exporting import prepared_shop

    def full(_places: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "work/export")

    prepared_shop.write(workspace)
    monkeypatch.setattr(prepared_tables, "prepared", full)
    assert export.main(["shop", "--to", "csv"]) == 4
    assert caplog.messages[-1].startswith("export: found work/export that cannot be written")
