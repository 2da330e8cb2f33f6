"""An S3 server on this machine, moto, over connections that stay open as Amazon's do.

    with moto_server() as address:
        ...

werkzeug's own server closes each after one answer: to open the next one takes a third of what a request does.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from moto import backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Exchange(WSGIRequestHandler):
    """Requests and their answers, one after another, for as long as the client keeps the connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # bytes: an answer's headers leave with what follows them

    def run_wsgi(self) -> None:
        """Take a request whole, which leaves the next one's beginning next, and answer it."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()  # which werkzeug leaves out
        environ = self.make_environ()
        if environ.get("wsgi.input_terminated"):
            content = environ["wsgi.input"].read()
        else:
            length = int(environ.get("CONTENT_LENGTH", 0))
            content = self.rfile.read(length)
            if len(content) < length:  # the client has gone
                self.close_connection = True
                return
        environ["wsgi.input"] = io.BytesIO(content)
        parts, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        body = b"".join(parts)
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and code != "204":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


def one_write_at_a_time(application: Application) -> Application:
    """Make moto's conditional puts as atomic as S3's: it looks first and writes later (seen in moto 5.2)."""
    writing = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT":
            return application(environ, start_response)
        with writing:
            return application(environ, start_response)

    return serve


@contextmanager
def moto_server() -> Iterator[str]:
    """Give the address of a server of this process."""
    modules = tuple(backends.list_of_moto_modules())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "list_of_moto_modules", lambda: modules)  # which looks into 200 folders a request
        application = one_write_at_a_time(DomainDispatcherApplication(create_backend_app))
        server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Exchange)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        thread.join()
