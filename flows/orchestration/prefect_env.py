"""What must stand in the environment before Prefect is imported: which server, no telemetry, no proxy to loopback.

Enters: the environment, and the profile that Prefect's own settings name. Leaves: an environment that Prefect, and
every process started from here, reads once; whether a server is there to record a run.
Trade-off: Prefect reads its settings when it is imported and never again, so nothing here imports it.
"""

import ipaddress
import logging
import os
import tomllib
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

log = logging.getLogger("vip5")
ADDRESS = "PREFECT_API_URL"
SERVED = "served"
"""The profile under which `flows.serve` leaves the address of its own server while it runs."""
KEPT = "VIP5_NO_PROXY"
"""Where the operator's own NO_PROXY waits for the commands that may use a proxy (`dvc push`)."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


def prepare(level: str = "CRITICAL") -> None:
    """Sets what Prefect must find: no telemetry, no second log beside ours, no proxy on the way to loopback.

    `level` is what Prefect keeps of a run's log on its page; nothing of it is written to the terminal.
    """
    for key, value in (_QUIET | {"PREFECT_LOGGING_LEVEL": level}).items():
        os.environ.setdefault(key, value)
    spare_loopback(os.environ.get(ADDRESS))
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record is not one of Prefect's, which has its own copy of a run's lines."""
    return not record.name.startswith("prefect")


def spare_loopback(address: str | None) -> None:
    """Makes every HTTP library of this process and its children go to loopback without a proxy.

    Where Prefect's server is on loopback too, no proxy at all is left to Prefect: its HTTP library makes ready for each
    proxy that is named, and ends where one is of a kind that it does not know (`socks5://`), whether it is used or not.
    """
    own = os.environ.setdefault(KEPT, os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "")
    everything = address is None or is_loopback(address)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*" if everything else with_loopback(own)


def with_loopback(hosts: str) -> str:
    """A value of NO_PROXY with the names of this machine's loopback in it.

    Example:
        >>> with_loopback("intranet.example, localhost")
        'intranet.example,localhost,127.0.0.1,::1'
    """
    known = [host.strip() for host in hosts.split(",") if host.strip()]
    if known == ["*"]:
        return "*"
    return ",".join(dict.fromkeys([*known, *_LOOPBACK]))


def is_loopback(address: str) -> bool:
    """Whether an address names this machine.

    Example:
        >>> is_loopback("http://127.0.0.1:4200/api"), is_loopback("https://prefect.example/api")
        (True, False)
    """
    host = (urlsplit(address).hostname or "").rstrip(".")
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return number.is_loopback or number.is_unspecified


def profiles_path() -> Path:
    """The file of Prefect's profiles, as pyproject.toml places it."""
    if path := os.environ.get("PREFECT_PROFILES_PATH"):
        return Path(path)
    return Path(".prefect") / "profiles.toml"


def configured_address() -> tuple[str | None, bool]:
    """The address of Prefect's server, and whether a person configured it.

    PREFECT_API_URL counts first, then Prefect's active profile; the profile that `flows.serve` wrote is nobody's wish.
    """
    if address := os.environ.get(ADDRESS):
        return address, True
    try:
        found = tomllib.loads(profiles_path().read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None, False
    active = os.environ.get("PREFECT_PROFILE") or found.get("active")
    address = found.get("profiles", {}).get(active, {}).get(ADDRESS)
    return address, bool(address) and active != SERVED


def find_server() -> tuple[str | None, bool]:
    """The address of Prefect's server, and whether it answers; one that does stands in the environment for Prefect."""
    address, wanted = configured_address()
    if address and answers(address):
        os.environ[ADDRESS] = address
        return address, True
    return address if wanted else None, False


def use_server(command: str) -> bool:
    """Whether a Prefect server is configured and answers.

    No server is started for a run typed by hand: one that does not answer costs the record and never the run.
    """
    address, there = find_server()
    if address and not there:
        log.warning("%s: no Prefect server answers at %s: the run goes on without its record there", command, address)
    return there


def answers(address: str, seconds: float = 5.0) -> bool:
    """Whether a Prefect server answers at this API address; loopback is asked without a proxy."""
    opener = build_opener(ProxyHandler({})) if is_loopback(address) else build_opener()
    try:
        with opener.open(f"{address.rstrip('/')}/health", timeout=seconds) as response:
            return bool(response.status == 200)
    except (URLError, OSError, ValueError):
        return False
