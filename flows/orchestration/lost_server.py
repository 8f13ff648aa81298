"""Runs of Prefect flows that outlive Prefect's server: a run ends with its own result, recorded or not.

Prefect raises the error of its last request if the server ends during a run, whatever the flow returned.
"""

# ruff: noqa: TID253 - part of the door to Prefect; commands import it late
import logging
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from features.errors import VIP5Error
from flows.orchestration.prefect_env import is_server_up, mark_server_lost

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("vip5")
_HEALTH_SECONDS = 2.0


@dataclass(frozen=True)
class _Recording:
    """What is kept of one run: the outcome of the flow's function, and settings for Prefect's last requests."""

    ended: list[Any] = field(default_factory=list)
    settings: ExitStack = field(default_factory=ExitStack)

    def keep(self, outcome: Any) -> None:
        """Keeps a result or an error; Prefect then sends its last requests once if the server is gone."""
        self.ended.append(outcome)
        if not _is_there():
            self.settings.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))


_recording: ContextVar[_Recording | None] = ContextVar("recording", default=None)
_LOST = (httpx.HTTPError, PrefectException)


def kept(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates the function of a flow so that `run_recorded` has its result or its error without the server."""

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> T:
        recording = _recording.get()
        try:
            result = function(*arguments, **options)
        except BaseException as error:
            if recording is not None:
                recording.keep(error)
            raise
        if recording is not None:
            recording.keep(result)
        return result

    return run


def run_recorded(command: str, flow: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """Calls `flow` and returns its result, also if the server ends during the run.

    Args:
        command: the name of the command, for the log.
        flow: calls a flow whose function is `kept`.
        otherwise: does the same work without Prefect; called if the server ended before the flow began.
    """
    logging.raiseExceptions = False  # Prefect writes to standard error when it cannot send a log record
    recording = _Recording()
    token = _recording.set(recording)
    try:
        return flow()
    except VIP5Error:
        raise
    except _LOST as error:
        if recording.ended and recording.ended[0] is error:
            raise
        log.warning("%s: Prefect's server ended during the run; its page does not show the end", command)
    finally:
        recording.settings.close()
        _recording.reset(token)
        if not _is_there():
            mark_server_lost()
    ended = recording.ended
    if not ended:
        return otherwise()
    if isinstance(ended[0], BaseException):
        raise ended[0]
    result: T = ended[0]
    return result


def publish_artifact(create: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Creates an artifact on the server; a server that does not answer costs the artifact and not the run."""
    if not _is_there():
        return
    try:
        create(*arguments, **options)
    except _LOST as error:
        log.warning("no artifact %s on Prefect's page (%s)", options.get("key"), type(error).__name__)


def _is_there() -> bool:
    """Whether the server answers; Prefect's own, in this process, always does."""
    address = PREFECT_API_URL.value()
    return not address or is_server_up(address, _HEALTH_SECONDS)
