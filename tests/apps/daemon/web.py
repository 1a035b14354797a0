"""A sample app with a daemon: a process in a session of its own that inherits the app's output and keeps writing."""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Logs one line per request."""

    timeout = 5

    def do_GET(self):
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, format, *args):
        print(format % args, flush=True)


def daemon():
    """Starts the daemon with a double fork, so that this process is not its parent."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in range(1, 3000):
        print(f"daemon: beat {number}", flush=True)
        time.sleep(0.1)
    os._exit(0)


daemon()
os.wait()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
