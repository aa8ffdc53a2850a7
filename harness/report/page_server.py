"""The page of a watched training on 127.0.0.1, for a browser on this machine, while the training runs.

It serves one page, whose address has a part that nobody can guess: other users of the machine reach its ports too.
A request that names another host is refused, so that a foreign web page cannot read this one by a name of its own that
leads here (DNS rebinding).
"""

from __future__ import annotations

import http.server
import secrets
import socketserver
import threading
from dataclasses import dataclass, field
from http import HTTPStatus

_LONGEST_REQUEST = 10.0
"""Seconds."""


class _Server(socketserver.ThreadingTCPServer):
    """Unlike `http.server`'s own, it does not look up the host's name, which may take seconds."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is not the terminal's business."""


@dataclass
class PageServer:
    """Serves the page that it was given last, in a thread of its own, until `close`."""

    page: bytes = b""
    path: str = field(default_factory=lambda: f"/{secrets.token_urlsafe(9)}/")
    _server: _Server = field(init=False)

    def __post_init__(self) -> None:
        """Start.

        Raises:
            OSError: no port can be had.
        """
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    @property
    def port(self) -> int:
        """Chosen by the system."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """What a user opens."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def hosts(self) -> frozenset[str]:
        """The values of `Host` that a request may have."""
        return frozenset({f"127.0.0.1:{self.port}", f"localhost:{self.port}"})

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler(served: PageServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _LONGEST_REQUEST
        server_version = "page"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            hosts = self.headers.get_all("Host", [])
            if len(hosts) != 1 or hosts[0] not in served.hosts:
                self._send(HTTPStatus.MISDIRECTED_REQUEST, b"", with_body=False)
            elif not secrets.compare_digest(self.path.encode("utf-8", "replace"), served.path.encode()):
                self._send(HTTPStatus.NOT_FOUND, b"", with_body=False)
            else:
                self._send(HTTPStatus.OK, served.page, with_body=with_body)

        def _send(self, status: HTTPStatus, body: bytes, *, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not the terminal's business."""

    return Handler
