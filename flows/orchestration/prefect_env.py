"""Environment variables that must be set before Prefect is imported: server URL, no telemetry, no proxy to loopback.

Reads the environment and Prefect's active profile, and checks whether a server is available to record a run.

Prefect reads its settings once, when it is imported; this module therefore does not import it.
"""

import base64
import ipaddress
import logging
import os
import tomllib
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

log = logging.getLogger("vip5")
ADDRESS = "PREFECT_API_URL"
_AUTH = "PREFECT_API_AUTH_STRING"
SERVED = "served"
"""The Prefect profile that holds the URL of the server that `flows.serve` started, while it runs."""
SAVED_NO_PROXY = "VIP5_NO_PROXY"
"""The variable that saves the operator's NO_PROXY for commands that may use a proxy (`dvc push`)."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


def prepare(level: str = "CRITICAL") -> None:
    """Configures Prefect: no telemetry, no console log, no proxy to loopback, no password in the server's URL.

    `level` is the lowest level of log records that Prefect shows on its page; none are written to the terminal.
    """
    for key, value in (_QUIET | {"PREFECT_LOGGING_LEVEL": level}).items():
        os.environ.setdefault(key, value)
    plain, user = _split_credentials(os.environ.get(ADDRESS, ""))
    if user:  # Prefect shows the URL in its output
        os.environ[ADDRESS] = plain
        os.environ.setdefault(_AUTH, user)
    bypass_loopback_proxies(os.environ.get(ADDRESS))
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record is not Prefect's; Prefect logs a run's lines itself."""
    return not record.name.startswith("prefect")


def bypass_loopback_proxies(address: str | None) -> None:
    """Excludes loopback from proxies for this process and its children.

    If Prefect's server is on loopback, all proxies are disabled for Prefect: its HTTP library initialises every
    configured proxy and fails on an unsupported scheme (`socks5://`), even if the proxy is not used.
    """
    own = os.environ.setdefault(SAVED_NO_PROXY, os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "")
    everything = address is None or is_loopback(address)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*" if everything else with_loopback(own)


def with_loopback(hosts: str) -> str:
    """Adds the names of the loopback interface to a value of NO_PROXY.

    Example:
        >>> with_loopback("intranet.example, localhost")
        'intranet.example,localhost,127.0.0.1,::1'
    """
    known = [host.strip() for host in hosts.split(",") if host.strip()]
    if known == ["*"]:
        return "*"
    return ",".join(dict.fromkeys([*known, *_LOOPBACK]))


def is_loopback(address: str) -> bool:
    """Whether a URL refers to this machine.

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
    """The file of Prefect's profiles, as set in pyproject.toml."""
    if path := os.environ.get("PREFECT_PROFILES_PATH"):
        return Path(path)
    return Path(".prefect") / "profiles.toml"


def configured_address() -> tuple[str | None, bool]:
    """The URL of Prefect's server, and whether the operator configured it.

    PREFECT_API_URL takes precedence over Prefect's active profile. A URL in the profile that `flows.serve` wrote does
    not count as configured.
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
    """The URL of Prefect's server, and whether it is up; sets PREFECT_API_URL if it is."""
    address, wanted = configured_address()
    if address and is_server_up(address):
        os.environ[ADDRESS] = address
        return address, True
    return address if wanted else None, False


def use_server(command: str) -> bool:
    """Whether a Prefect server is configured and up.

    Logs a warning if a configured server is down; the run then continues without being recorded.
    """
    address, there = find_server()
    if address and not there:
        log.warning("%s: no Prefect server answers at %s; continuing without recording the run", command, address)
    return there


def is_server_up(address: str, seconds: float = 5.0) -> bool:
    """Whether a Prefect server answers at this API URL."""
    return server_state(address, seconds) == "up"


def server_state(address: str, seconds: float = 5.0) -> Literal["up", "foreign", "down"]:
    """Whether a Prefect server answers at this API URL, or a server of another kind, or none.

    Requests to loopback bypass proxies. A user name and password in the URL are sent as Prefect sends them.
    """
    try:
        plain, user = _split_credentials(address)
        user = user or os.environ.get(_AUTH, "")
        headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
        opener = build_opener(ProxyHandler({})) if is_loopback(address) else build_opener()
        with opener.open(Request(f"{plain.rstrip('/')}/health", headers=headers), timeout=seconds) as response:  # noqa: S310 - the operator's URL
            return "up" if response.read(64).strip() == b"true" else "foreign"
    except HTTPError as error:
        return "foreign" if error.code in {404, 405, 501} else "down"
    except BadStatusLine as error:
        return "down" if isinstance(error, RemoteDisconnected) else "foreign"
    except (HTTPException, OSError, ValueError):
        return "down"


def _split_credentials(address: str) -> tuple[str, str]:
    """The URL without user name and password, and `user:password`, empty if there is none.

    Example:
        >>> _split_credentials("https://me:secret@prefect.example/api")
        ('https://prefect.example/api', 'me:secret')
    """
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=host).geturl() if user else address, unquote(user)
