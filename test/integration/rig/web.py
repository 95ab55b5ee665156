"""Web servers: one that serves a folder as a broker's Apache does, and can be told to misbehave."""

import email.utils
import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Fault:
    """What goes wrong with a path; each is given the handler and the reply's body."""

    @staticmethod
    def status(code):
        return lambda handler, body: handler.reply(code, b"no\n")

    @staticmethod
    def truncate(at):
        """Promises the whole body, sends a part, closes."""

        def send(handler, body):
            handler.start(200, len(body))
            handler.wfile.write(body[:at])
            handler.close_connection = True

        return send

    @staticmethod
    def half(body_part):
        """A plain copy in the middle: a short but complete reply."""
        return lambda handler, body: handler.reply(200, body[: int(len(body) * body_part)])

    @staticmethod
    def replace(data, **headers):
        return lambda handler, body: handler.reply(200, data, headers)

    @staticmethod
    def hang(handler, body):
        """Says nothing until the server is closed."""
        handler.server.closing.wait()
        handler.close_connection = True

    @staticmethod
    def garbage(handler, body):
        handler.wfile.write(b"\x00\xff this is not HTTP\r\n\r\n")
        handler.close_connection = True

    @staticmethod
    def disconnect(handler, body):
        handler.close_connection = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def start(self, code, length, headers=None):
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def reply(self, code, body, headers=None):
        self.start(code, len(body), headers)
        self.wfile.write(body)

    def do_GET(self):
        name = unquote(self.path.split("?")[0]).lstrip("/")
        server = self.server
        with server.lock:
            server.requests.append((name, dict(self.headers)))
            fault = server.faults.get(name) or server.faults.get("*")
            once = server.once.pop(name, None)
        gate = server.gates.get(name)
        if gate:
            gate.wait()
        path = server.folder / name
        try:
            body = path.read_bytes()
            mtime = path.stat().st_mtime
        except OSError:
            body, mtime = None, 0
        try:
            if once or fault:
                (once or fault)(self, body or b"")
            elif body is None:
                self.reply(404, b"not found\n")
            else:
                self.serve(name, body, mtime)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def serve(self, name, body, mtime):
        headers = {
            "ETag": f'"{hashlib.md5(body).hexdigest()}-{int(mtime)}"',
            "Last-Modified": email.utils.formatdate(mtime, usegmt=True),
        }
        if not self.server.validators:
            headers = {}
        elif (
            self.headers.get("If-None-Match") == headers["ETag"]
            or "If-None-Match" not in self.headers
            and self.headers.get("If-Modified-Since") == headers["Last-Modified"]
        ):
            self.send_response(304)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            return
        if name.endswith(".gz") and self.server.add_encoding:
            headers["Content-Encoding"] = self.server.add_encoding
        elif self.server.compress and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        self.reply(200, body, headers)


class WebServer(ThreadingHTTPServer):
    """Serves `folder`.

    requests: (path, headers) of each request so far. faults: path (or "*") -> Fault; once: the
    same for the next request only. gates: path -> threading.Event that a request waits for.
    """

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = Path(folder)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests, self.faults, self.once, self.gates = [], {}, {}, {}
        self.validators, self.compress, self.add_encoding = True, False, None
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def requested(self, name=None):
        """Paths asked for so far; with a name, how often that one was."""
        with self.lock:
            paths = [path for path, _ in self.requests]
        return paths if name is None else paths.count(name)

    def forget_requests(self):
        with self.lock:
            self.requests.clear()

    def handle_error(self, request, client_address):
        pass  # a client that hung up

    def close(self):
        self.closing.set()
        for gate in self.gates.values():
            gate.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
