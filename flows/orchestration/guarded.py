"""`python -m flows.orchestration.guarded SECONDS MODULE ARGUMENTS`: runs a module until its parent process ends.

Standard input is a pipe from the parent. The module is terminated when the parent writes a byte, or SECONDS after the
pipe is closed.

Trade-off: a closed pipe is detected on every system, however the parent died, and costs one thread. A module that
outlives its parent (the server, to which other processes report their end) blocks all signals, because systemd and a
terminal send theirs to every process at once.
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
    """Runs the module like `python -m`."""
    seconds = float(sys.argv[1])
    if seconds:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # inherited by every thread started from here
    threading.Thread(target=_watch, args=(os.getpid(), seconds), daemon=True).start()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(process: int, seconds: float) -> None:
    """Sends SIGTERM when a byte arrives, or `seconds` after the pipe is closed; then SIGKILL after a grace period."""
    if not os.read(0, 1):
        time.sleep(seconds)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.kill(process, signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
