"""`python -m flows.orchestration.guarded SECONDS MODULE ARGUMENTS`: runs a module until its starter is gone.

Enters: how long to outlive the starter, a module's name, its arguments, and a pipe as standard input. Leaves: what the
module does.
Trade-off: a pipe that closes is noticed on every system, however the other end died; it takes one thread. A module that
outlives its starter (the server, to which the others report their ends) hears of no signal but the pipe's: systemd and
a terminal send theirs to every process at once.
"""

import os
import runpy
import signal
import sys
import threading
import time

_GRACE_SECONDS = 45.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Runs the module as `python -m` would."""
    seconds = float(sys.argv[1])
    if seconds:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # of every thread, for they all come from this one
    threading.Thread(target=_watch, args=(os.getpid(), seconds), daemon=True).start()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(process: int, seconds: float) -> None:
    """Asks this process to end when a byte comes, or some time after the pipe was closed; kills it if it does not."""
    if not os.read(0, 1):
        time.sleep(seconds)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.kill(process, signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
