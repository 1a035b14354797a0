"""A sample app that ignores SIGTERM: the platform kills it after 30 s (R12)."""

import os
import signal
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


signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM? I go on.", flush=True))
HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
