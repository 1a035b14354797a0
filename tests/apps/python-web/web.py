"""A sample web app without dependencies: logs each request, stops cleanly on SIGTERM."""

import logging
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = logging.getLogger("web")


class Handler(BaseHTTPRequestHandler):
    """Serves a few paths, and logs one line per request to standard output."""

    server_version = "python-web"
    timeout = 5

    def do_GET(self):
        path = self.path.split("?", 1)[0]
        if path == "/":
            self.answer(200, "hello from python-web\n")
        elif path.startswith("/orders") or path == "/search":
            self.answer(200, "one order, two lines, 59.90 €\n" * 20)
        else:
            log.warning("no route matches %s %r", self.command, self.path)
            self.answer(404, "nothing here\n")

    do_HEAD = do_GET

    def do_POST(self):
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        self.answer(201, "created\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        request_id = self.headers.get("X-Request-ID", "-")
        log.info("%s %s → %s request_id=%s", self.command, self.path, int(code), request_id)

    def log_message(self, format, *args):
        log.error(format, *args)


def loggers():
    """Sends warnings and errors to standard error, everything else to standard output, both line-buffered."""
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    sys.stderr.reconfigure(encoding="utf-8", line_buffering=True)
    out, err = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    out.addFilter(lambda record: record.levelno < logging.WARNING)
    err.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] %(message)s", handlers=[out, err])


def main():
    loggers()
    port = int(os.environ["PORT"])
    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
    server.daemon_threads = True

    def stop(number, _frame):
        log.info("got %s, stopping", signal.Signals(number).name)
        # On another thread: shutdown() waits for serve_forever(), which runs on this one.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("listening on port %d", port)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    log.info("stopped")


if __name__ == "__main__":
    main()
