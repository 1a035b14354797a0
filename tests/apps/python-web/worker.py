"""A sample worker without dependencies: runs jobs, logs a traceback for one in ten, stops on SIGTERM."""

import logging
import signal
import sys
import threading

log = logging.getLogger("worker")


def perform(job):
    """Runs a job; one in ten fails."""
    if job % 10 == 0:
        raise TimeoutError("mail.example: no answer")


def main():
    sys.stderr.reconfigure(encoding="utf-8", line_buffering=True)
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] %(message)s", stream=sys.stderr)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log.info("worker ready")
    job = 0
    while not stopping.wait(0.15):
        job += 1
        try:
            perform(job)
            log.info("job %d done", job)
        except TimeoutError:
            log.exception("job %d failed", job)
    log.info("stopped after %d jobs", job)


if __name__ == "__main__":
    main()
