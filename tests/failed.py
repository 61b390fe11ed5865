"""`python -m tests.failed N`: print the tests that failed in the last run, if they are at most N; else exit with 1."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Where pytest keeps what `--last-failed` runs; names of files stand there too, where a file could not be imported.
LAST_FAILED = Path(__file__).parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main(most: int) -> int:
    failed = list(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []
    if not 0 < len(failed) <= most or not all("::" in name for name in failed):
        return 1
    print(*failed)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
