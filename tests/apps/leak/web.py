"""A sample app that leaks memory: 20 MB per request, up to 600 MB, so that a small dyno logs R14."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

EACH, MOST = 20 << 20, 600 << 20
kept = []


class Handler(BaseHTTPRequestHandler):
    """Leaks memory with each request."""

    timeout = 5

    def do_GET(self):
        if len(kept) * EACH < MOST:
            kept.append(bytearray(os.urandom(4096)) * (EACH // 4096))
        print(f"{self.command} {self.path}: {len(kept) * EACH >> 20} MB kept", flush=True)
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, format, *args):
        pass


HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
