"""A FunASR harness bundle: everything that a matrix needs on a host that has torch and no network.

    python bundle.pyz run                 run the matrix on this host's own torch
    python bundle.pyz info                say what is in the bundle

Nothing is installed: the bundle is unpacked into a folder, and libraries that this host lacks are used from there.
What comes out is one file. At home: funasr-harness report --import FILE
"""

# This is the bundle's `__main__.py`. It runs before anything is unpacked, so it has the standard library only;
# and it has to be read by Pythons that are too old for the rest, to be able to say so.

import argparse
import hashlib
import importlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import Any, Dict, List, Optional, Tuple

FAULT = 3
BAD_INPUT = 2
INTERRUPTED = 130
SCHEMA = 1
LOOK = """
import importlib.util, json, sys
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
print(json.dumps({name: has(name) for name in json.loads(sys.argv[1])}))
"""


class Refusal(Exception):
    """Why the bundle is of no use here: what, the likely cause, and what to do next."""

    def __init__(self, what: str, cause: str = "", next_step: str = "", status: int = FAULT) -> None:
        lines = [what]
        if cause:
            lines.append("  likely cause: " + cause)
        if next_step:
            lines.append("  next: " + next_step)
        Exception.__init__(self, "\n".join(lines))
        self.status = status


def main(arguments: Optional[List[str]] = None) -> int:
    """Run one command of the bundle; returns the exit status."""
    options = read_options(arguments)
    try:
        with open_bundle(os.path.dirname(os.path.abspath(__file__))) as bundle:
            manifest, digest = read_manifest(bundle)
            if options.command == "info":
                print(description(manifest))
                return 0
            check_host(manifest)
            have = look_at_host(manifest)
            place = options.cache or tempfile.mkdtemp(prefix="funasr-bundle-")
            try:
                root = unpack(bundle, manifest, digest, os.path.abspath(os.path.expanduser(place)))
                return start(root, manifest, have, options)
            finally:
                if not options.cache:
                    shutil.rmtree(place, ignore_errors=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Refusal as refusal:
        print("error: %s" % refusal, file=sys.stderr)
        return refusal.status
    except OSError as error:
        print("error: %s" % error, file=sys.stderr)
        print("  next: make room or give another folder with --cache", file=sys.stderr)
        return FAULT


def read_options(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The parsed arguments; argparse ends the process if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python bundle.pyz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    run = commands.add_parser("run", help="run the matrix on this host's own torch", allow_abbrev=False)
    run.add_argument("-o", "--output", metavar="FILE", help="the result (default: <matrix>-result.zip)")
    run.add_argument("--only", action="append", default=[], metavar="GLOB", help="only cells whose id matches")
    run.add_argument(
        "--cache",
        metavar="DIR",
        help="unpack here and keep it; the same command then resumes a run",
    )
    run.add_argument("--jobs", type=int, metavar="N", help="cells at once on a CPU (default: one per processor)")
    run.add_argument("--require-gpu", action="store_true", help="fail when torch finds no GPU")
    run.add_argument("--debug", action="store_true", help="show the traceback of an error")
    info = commands.add_parser("info", help="say what is in the bundle", allow_abbrev=False)
    info.set_defaults(cache=None)
    return parser.parse_args(arguments)


def open_bundle(path: str) -> zipfile.ZipFile:
    """The bundle as a zip archive."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise Refusal("%s cannot be read: %s" % (os.path.basename(path), error), "it was cut short on its way")


def read_manifest(bundle: zipfile.ZipFile) -> Tuple[Any, str]:
    """What the bundle says of itself, and the hash of that."""
    content = read_part(bundle, "manifest.json")
    try:
        manifest = json.loads(content.decode("utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError):
        raise damaged("manifest.json")
    if schema != SCHEMA:
        raise Refusal("the bundle is of schema %s, its starter reads %s" % (schema, SCHEMA))
    return manifest, hashlib.sha256(content).hexdigest()


def read_part(bundle: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one file of the bundle."""
    try:
        return bundle.read(name)
    except (KeyError, zipfile.BadZipFile, EOFError, OSError):
        raise damaged(name)


def damaged(name: str) -> Refusal:
    """The error for a bundle that is not as it was made."""
    return Refusal(
        "the bundle is damaged: %s is not what it was made with; nothing of it was run" % name,
        "it was changed, or cut short on its way",
        "bring it along again, and compare its sha256 with what `funasr-harness bundle` printed",
    )


def check_host(manifest: Any) -> None:
    """Refuse a Python or a platform that the libraries were not built for."""
    version_of_python = "%d.%d" % sys.version_info[:2]
    if version_of_python != manifest["python"]:
        raise Refusal(
            "this bundle is for Python %s, and this is Python %s" % (manifest["python"], version_of_python),
            next_step="run it with python%s, or make one with --python %s" % (manifest["python"], version_of_python),
            status=BAD_INPUT,
        )
    match = re.match(r"(\w+?)-manylinux_(\d+)_(\d+)$", manifest["platform"])
    library, version = platform.libc_ver()
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    required_glibc = [int(match.group(2)), int(match.group(3))] if match else []
    machine = match.group(1) if match else ""
    fits = sys.platform == "linux" and platform.machine() == machine and library == "glibc"
    if not fits or numbers < required_glibc:
        host_platform = "%s-%s with %s %s" % (
            sys.platform,
            platform.machine(),
            library or "another libc than glibc",
            version,
        )
        raise Refusal(
            "this bundle is for %s, and this is %s" % (manifest["platform"], host_platform.strip()),
            next_step="make one with --platform for this host",
            status=BAD_INPUT,
        )
    try:
        import lzma  # noqa: F401
    except ImportError:
        raise Refusal("this Python was built without lzma, in which the bundle is packed", next_step="use another one")


def look_at_host(manifest: Any) -> Dict[str, bool]:
    """Which modules this interpreter has; as it is started for the releases, without the user's PYTHONPATH."""
    names = ["torch", "torchaudio"]
    for library in manifest["libraries"].values():
        names.extend(library["modules"])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    completed = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps(names)],
        stdout=subprocess.PIPE,
        env=environment,
        # Not the user's folder: the modules in it are not installed.
        cwd=tempfile.gettempdir(),
    )
    try:
        have: Dict[str, bool] = json.loads(completed.stdout.decode("utf-8"))
    except ValueError:
        raise Refusal("%s does not work (exit status %s)" % (sys.executable, completed.returncode))
    for name in ("torch", "torchaudio"):
        if not have[name]:
            raise Refusal(
                "%s has no %s, which the bundle takes from the host" % (sys.executable, name),
                "this is not the interpreter that has it",
                "run the bundle with the python that has torch and torchaudio",
            )
    return have


def unpack(bundle: zipfile.ZipFile, manifest: Any, digest: str, place: str) -> str:
    """Unpack every part whose hash is right into a folder of this bundle's own; done once per folder."""
    root = os.path.join(place, digest[:16])
    mark = os.path.join(root, "whole")
    if os.path.isfile(mark):
        return root
    unpacked = root + ".making-%d" % os.getpid()
    contents = {}
    # Every part is looked at before the first is unpacked.
    for name, part in sorted(manifest["parts"].items()):
        content = read_part(bundle, name)
        if len(content) != part["bytes"] or hashlib.sha256(content).hexdigest() != part["sha256"]:
            raise damaged(name)
        contents[name] = content
    try:
        for content in contents.values():
            unpack_part(content, unpacked)
        with open(os.path.join(unpacked, "manifest.json"), "wb") as file:
            file.write(read_part(bundle, "manifest.json"))
        with open(os.path.join(unpacked, "whole"), "w") as file:
            file.write(digest + "\n")
        shutil.rmtree(root, ignore_errors=True)
        os.rename(unpacked, root)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return root


def unpack_part(content: bytes, place: str) -> None:
    """Unpack a tar.xz; its names lead nowhere else."""
    import lzma
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:xz") as archive:
            members = archive.getmembers()
            for member in members:
                astray = member.name.startswith("/") or ".." in member.name.split("/")
                if astray or not (member.isfile() or member.isdir()):
                    raise damaged(member.name)
            if hasattr(tarfile, "data_filter"):
                archive.extractall(place, filter="data")
            else:
                archive.extractall(place)
    except (tarfile.TarError, lzma.LZMAError, EOFError):
        raise damaged("a part")


def start(root: str, manifest: Any, have: Dict[str, bool], options: argparse.Namespace) -> int:
    """Put the harness and what is missing on the path, and hand over."""
    missing = {
        name: os.path.join(root, "libraries", name, "site-packages")
        for name, library in manifest["libraries"].items()
        if not all(have[module] for module in library["modules"])
    }
    if missing:
        print("used from the bundle: %s" % ", ".join(sorted(missing)), file=sys.stderr)
    for reason in sorted(set(manifest["left_out"].values())):
        checks = [check for check, why in manifest["left_out"].items() if why == reason]
        print("not in the bundle: the cells of %s: %s" % (", ".join(sorted(checks)), reason), file=sys.stderr)
    folders = [missing[name] for name in sorted(missing)]
    os.environ["FUNASR_HARNESS_LIBRARIES"] = os.pathsep.join(folders)
    # The host's own packages come before the bundle's.
    sys.path[:1] = [os.path.join(root, "code")]
    sys.path.extend(folders)
    # By name: the bundle starts the harness that it carries, it is no part of it.
    started = importlib.import_module("harness.commands.bundle_host").main(root, options)
    return int(started)


def description(manifest: Any) -> str:
    """The manifest in words."""
    libraries = ["%s %s" % (name, library["version"]) for name, library in sorted(manifest["libraries"].items())]
    lines = [
        "matrix %s, %d cells, for Python %s on %s"
        % (manifest["matrix"], len(manifest["cells"]), manifest["python"], manifest["platform"]),
        "releases: " + ", ".join(manifest["releases"]),
        "libraries, where the host lacks them: " + ", ".join(libraries),
    ]
    lines.extend("left out: %s (%s)" % item for item in sorted(manifest["left_out"].items()))
    lines.extend("%s: %d bytes, sha256 %s" % (n, p["bytes"], p["sha256"]) for n, p in sorted(manifest["parts"].items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
