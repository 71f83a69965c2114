"""Runs the command lines on stdin in this process and reports on each: status, words, CPU seconds, resident memory.

A module of its own, run by path: the process is fresh, so that what it holds is what the commands took.
"""

import contextlib
import importlib
import io
import json
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

LIMIT = 3 << 30
"""Data bytes above which an allocation fails: the machine that runs the tests survives a bound that is missing."""
SECONDS = 120
"""Wall seconds after which a command counts as stuck."""


def resident(field: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) << 10


def stuck(*_: object) -> None:
    raise TimeoutError("no answer")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    for name in filter(None, sys.argv[1].split(",")):
        importlib.import_module(name)
    from w2s_fast_cli.main import run

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        run(["cache", "ls", "--cache", "/nonexistent"])  # what the first command imports is not the first case's
    signal.signal(signal.SIGALRM, stuck)
    for line in sys.stdin:
        case = json.loads(line)
        out, err = io.StringIO(), io.StringIO()
        Path("/proc/self/clear_refs").write_text("5")
        before, started = resident("VmRSS"), time.process_time()
        status = -1
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                run(case["argv"])
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            err.write(traceback.format_exc())
        signal.alarm(0)
        peak = resident("VmHWM")
        case |= {"status": status, "out": out.getvalue()[:4000], "err": err.getvalue()[-4000:]}
        case |= {"seconds": time.process_time() - started, "peak": peak, "grown": peak - before}
        print(json.dumps(case), flush=True)


if __name__ == "__main__":
    main()
