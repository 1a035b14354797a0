"""A sample app that forks its workers before they accept connections, as gunicorn, Puma and Unicorn do: they share most
of their memory with the master, which replaces workers that exit."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

WORKERS = 3
SHARED = bytearray(os.urandom(1 << 20)) * 40  # stands for a framework that is loaded once


class Handler(BaseHTTPRequestHandler):
    """Logs one line per request, with the worker's process id."""

    timeout = 5

    def do_GET(self):
        self.answer(b"" if self.command == "HEAD" else b"one of %d workers\n" % WORKERS)

    do_HEAD = do_GET

    def do_POST(self):
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        self.answer(b"created\n")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        say("%s" % (format % args))


def say(text):
    """Writes a line with one system call, so that lines of several workers do not mix."""
    os.write(1, f"[{os.getpid()}] {text}\n".encode())


def work(server):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    say(f"worker with {len(SHARED) >> 20} MB of its master's memory")
    server.serve_forever(poll_interval=0.1)


def main():
    server = HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler)
    stopping = []
    workers = set()

    def stop(*_):
        stopping.append(True)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    say(f"master on port {os.environ['PORT']}")
    while workers or not stopping:
        while len(workers) < WORKERS and not stopping:
            pid = os.fork()
            if pid == 0:
                work(server)
                os._exit(0)
            workers.add(pid)
        try:
            pid, _status = os.wait()
            workers.discard(pid)
        except ChildProcessError:
            break
    say("master stopped")


if __name__ == "__main__":
    main()
