"""`python -m flows.guarded SECONDS MODULE ARGUMENTS`: runs a module, and ends it when its starter is gone.

Enters: seconds to wait with that, a module's name, its arguments, and a pipe as standard input. Leaves: what the module
does.
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
    """Runs the module as `python -m` would."""
    threading.Thread(target=_watch, args=(os.getpid(), float(sys.argv[1])), daemon=True).start()
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(process: int, seconds: float) -> None:
    """Asks this process to end some time after its standard input was closed, and kills it if it does not."""
    while os.read(0, 1024):
        continue
    time.sleep(seconds)
    os.kill(process, signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
