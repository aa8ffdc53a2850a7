"""A package index that is down, slow, cut off or not what it should be: one message each, and nothing installed."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from release_files import make_wheel, published

from harness.core.cells import Release
from harness.core.errors import FetchError
from harness.releases import fetch, install_path, lockfile, package_index

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]

SECRET = "user:word"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Answer]]:
    """An index on this machine that has release 1.0.0: how it answers for its page and for the file is a test's own."""
    wheel = make_wheel(tmp_path, "1.0.0").read_bytes()
    name = "funasr-1.0.0-py3-none-any.whl"
    link = f'<html><body><a href="/files/{name}">{name}</a></body></html>'.encode()
    answers: dict[str, Answer] = {"page": whole, "file": whole}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/files/" in self.path:
                answers["file"](self, wheel)
            else:
                answers["page"](self, link)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{SECRET}@127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    # What uv tries again by itself is not what is looked at here.
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield answers
    server.shutdown()
    serving.join()
    server.server_close()


def head(handler: BaseHTTPRequestHandler, length: int, status: int = 200) -> None:
    handler.send_response(status)
    binary = "/files/" in handler.path
    handler.send_header("Content-Type", "application/octet-stream" if binary else "text/html")
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    head(handler, len(content))
    handler.wfile.write(content)


def cut_off(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Half of what was promised, then the connection ends."""
    head(handler, len(content))
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.close_connection = True


def slow(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Ten bytes a second."""
    head(handler, len(content))
    try:
        for byte in content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        return


def silent(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """The connection stays open, and nothing comes."""
    time.sleep(5.0)


def broken(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    head(handler, 0, status=503)


def zeros(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """As many bytes that are no archive."""
    whole(handler, bytes(len(content)))


def portal(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """The log-in page of a network, with status 200."""
    whole(handler, b"<html><title>Log in</title><body>Please log in</body></html>")


@pytest.fixture
def release(tmp_path: Path, index: dict[str, Answer]) -> Release:
    return published(next(tmp_path.glob("*.whl")))


def test_the_index_serves_what_was_locked(release: Release, tmp_path: Path) -> None:
    fetch([release], tmp_path / "cache", jobs=1)
    assert install_path(release, tmp_path / "cache").is_dir()


@pytest.mark.parametrize(
    ("part", "answer", "cause"),
    [
        ("page", broken, "has a fault of its own"),
        ("page", cut_off, "ended before the whole file had come"),
        ("page", portal, "does not serve it"),
        ("page", silent, "cannot be reached"),
        ("file", broken, "has a fault of its own"),
        ("file", cut_off, "ended before the whole file had come"),
        ("file", zeros, "no archive"),
        ("file", portal, "no archive"),
        ("file", silent, "cannot be reached"),
    ],
)
def test_a_release_that_does_not_come_whole_is_not_installed(
    part: str,
    answer: Answer,
    cause: str,
    release: Release,
    index: dict[str, Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index[part] = answer
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
    with pytest.raises(FetchError) as caught:
        fetch([release], tmp_path / "cache", jobs=1)
    message = str(caught.value)
    assert "release 1.0.0" in message
    assert cause in message
    assert "next:" in message
    assert SECRET not in message
    assert "127.0.0.1" not in message
    assert not install_path(release, tmp_path / "cache").exists()


@pytest.mark.parametrize("part", ["page", "file"])
def test_an_index_of_ten_bytes_a_second_is_given_up(
    part: str, release: Release, index: dict[str, Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index[part] = slow
    monkeypatch.setattr(package_index, "_PATIENCE_SECONDS", 2.0)
    with pytest.raises(FetchError, match="the index is slow or unreachable"):
        fetch([release], tmp_path / "cache", jobs=1)
    assert not install_path(release, tmp_path / "cache").exists()


@pytest.mark.parametrize("answer", [broken, cut_off, portal])
def test_no_lock_is_made_of_what_such_an_index_says(answer: Answer, index: dict[str, Answer], tmp_path: Path) -> None:
    index["page"] = answer
    with pytest.raises(FetchError) as caught:
        lockfile.lock(tmp_path / "lock.toml", today=datetime.date(2026, 1, 31))
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "lock.toml").exists()
