"""A sample app whose output is hard to deliver: lines of 1 MB, stack traces, bytes that are not text."""

import os
import sys
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer


def fail(depth):
    return fail(depth - 1) if depth else {}["missing"]


class Handler(BaseHTTPRequestHandler):
    """Logs a long line, a stack trace and invalid UTF-8 per request."""

    timeout = 5

    def do_GET(self):
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        row = '{"id": 1042, "name": "Łukasz Żak", "total": "59.90 €"}, '
        print("dump: [" + row * ((1 << 20) // len(row.encode())) + "]", flush=True)
        try:
            fail(30)
        except KeyError:
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
        os.write(1, b"not text: \xff\xfe\x00 \x1b[31mred\x1b[0m tab\there\r\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, format, *args):
        pass


sys.stdout.reconfigure(encoding="utf-8")
HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
