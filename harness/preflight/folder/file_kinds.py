"""What a file is by its content and not by its name; bounded reads of regular files, and nothing of it is executed."""

from __future__ import annotations

import codecs
import errno
import os
import stat
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_HEAD = 4096
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled magic number with which `torch.save` began files before torch 1.6."""
MOST_TEXT = 64 << 20
"""Bytes that are read of a text file; a list of tokens has less than one megabyte, a seg_dict some ten."""


class FileKind(StrEnum):
    """What a file is; the value completes "it is …"."""

    MISSING = "missing"
    FOLDER = "a folder"
    SPECIAL = "no regular file"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    LFS_POINTER = "a Git LFS pointer"
    WEB_PAGE = "an HTML page"
    ERROR_ANSWER = "the answer of a server in XML or JSON"
    TORCH = "a file of torch.save"
    TORCH_LEGACY = "a file of torch.save before torch 1.6"
    TORCH_SCRIPT = "a TorchScript program"
    TRUNCATED = "a truncated zip file"
    ZIP = "a zip archive"
    GZIP = "a gzip archive"
    TAR = "a tar archive"
    SEVEN_ZIP = "a 7z archive"
    SAFETENSORS = "a safetensors file"
    ONNX = "an ONNX model"
    GGUF = "a GGUF file"
    NUMPY = "a numpy array"
    PICKLE = "a plain Python pickle"
    TEXT = "text"
    BINARY = "of unknown binary content"


CHECKPOINTS = frozenset({FileKind.TORCH, FileKind.TORCH_LEGACY})
"""What `torch.load` reads as weights."""
ARCHIVES = frozenset({FileKind.ZIP, FileKind.GZIP, FileKind.TAR, FileKind.SEVEN_ZIP})


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """A file's kind and size."""

    kind: FileKind
    size: int = 0
    note: str = ""
    """What shows it: the first line of an error page, the size in a pointer."""

    @property
    def readable(self) -> bool:
        """Whether it is a regular file with some content of its own."""
        return self.kind not in _NO_CONTENT


_NO_CONTENT = frozenset(
    {FileKind.MISSING, FileKind.FOLDER, FileKind.SPECIAL, FileKind.UNREADABLE, FileKind.EMPTY}
    | {FileKind.LFS_POINTER, FileKind.WEB_PAGE}
)


def content_of(path: Path) -> FileContent:
    """What a file is. Links are followed: a hub's cache consists of them."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        missing = isinstance(error, ValueError) or error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        return FileContent(kind=FileKind.MISSING if missing else FileKind.UNREADABLE, note=_reason(error))
    if stat.S_ISDIR(status.st_mode):
        return FileContent(kind=FileKind.FOLDER)
    if not stat.S_ISREG(status.st_mode):
        return FileContent(kind=FileKind.SPECIAL)
    if not status.st_size:
        return FileContent(kind=FileKind.EMPTY)
    try:
        head = head_of(path)
    except OSError as error:
        return FileContent(kind=FileKind.UNREADABLE, size=status.st_size, note=_reason(error))
    kind = _kind(head, path)
    note = _first_line(head) if kind in (FileKind.WEB_PAGE, FileKind.ERROR_ANSWER, FileKind.LFS_POINTER) else ""
    return FileContent(kind=kind, size=status.st_size, note=note)


def exists(path: Path) -> bool:
    """Whether there is something; what cannot be looked at, such as a name that is too long, is not there."""
    return content_of(path).kind not in (FileKind.MISSING, FileKind.UNREADABLE)


def head_of(path: Path, count: int = _HEAD) -> bytes:
    """The first bytes of a regular file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    # Not blocking: a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "no regular file")
        return file.read(count)


def text_of(path: Path, most: int = MOST_TEXT) -> str:
    """The text of a regular file in UTF-8, a byte-order mark kept.

    Raises:
        OSError: it cannot be read, or is longer than `most` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    content = head_of(path, most + 1)
    if len(content) > most:
        raise OSError(None, f"longer than {most >> 20} MB")
    return content.decode("utf-8")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _kind(head: bytes, path: Path) -> FileKind:
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return FileKind.TAR
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < (1 << 27):
        return FileKind.SAFETENSORS
    if head[:1] == b"\x08" and any(word in head[:200] for word in (b"pytorch", b"onnx", b"ONNX")):
        return FileKind.ONNX
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return FileKind.PICKLE
    return _text(head)


_MAGIC = (
    (_LEGACY_TORCH, FileKind.TORCH_LEGACY),
    (b"\x1f\x8b", FileKind.GZIP),
    (b"7z\xbc\xaf\x27\x1c", FileKind.SEVEN_ZIP),
    (b"GGUF", FileKind.GGUF),
    (b"\x93NUMPY", FileKind.NUMPY),
    (b"version https://git-lfs", FileKind.LFS_POINTER),
)


def _zip(path: Path) -> FileKind:
    """By the directory at a zip file's end; a download that was cut off lacks it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return FileKind.TRUNCATED
    if "data.pkl" not in names:
        return FileKind.ZIP
    return FileKind.TORCH_SCRIPT if "constants.pkl" in names else FileKind.TORCH


def _text(head: bytes) -> FileKind:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return FileKind.WEB_PAGE
    if start.startswith((b"<?xml", b"<error")) or (start.startswith(b"{") and _is_error(start)):
        return FileKind.ERROR_ANSWER
    if b"\x00" in head:
        return FileKind.BINARY
    try:
        # The last character may be cut in two.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return FileKind.BINARY
    return FileKind.TEXT


def _is_error(start: bytes) -> bool:
    words = (b'"error', b'"message"', b'"code"', b'"success"', b'"requestid"')
    return any(word in start for word in words)


def _first_line(head: bytes) -> str:
    lines = head.decode("utf-8", "replace").strip().splitlines()
    return " ".join(" ".join(lines[:3]).split())[:160]
