"""`python -m flows.guarded MODULE ARGUMENTS`: runs a module, and ends it when the process that started it is gone.

Enters: a module's name, its arguments, and a pipe as standard input. Leaves: what the module does.
Trade-off: a pipe that closes is noticed on every system, however the other end died; it takes one thread.
"""

import os
import runpy
import signal
import sys
import threading
import time

_GRACE_SECONDS = 45.0


def main() -> None:
    """Runs the module named by the first argument as `python -m` would."""
    threading.Thread(target=_watch, args=(os.getpid(),), daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(process: int) -> None:
    """Asks this process to end once its standard input is closed, and ends it if it does not."""
    while os.read(0, 1024):
        continue
    os.kill(process, signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
