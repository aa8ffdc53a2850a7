"""Which releases exist, which of them a text names, and the folder that each is installed in."""

from harness.releases.cache import default_cache, install_path
from harness.releases.install import fetch
from harness.releases.lockfile import LockChange, load_lock, lock
from harness.releases.selection import resolve

__all__ = ["LockChange", "default_cache", "fetch", "install_path", "load_lock", "lock", "resolve"]
