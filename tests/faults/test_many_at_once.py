"""Writers, readers, a compaction, a prune and kills at once: no row is wrong, none is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("many_at_once.py")
SECONDS = 6.0  # a benchmark can raise it
FORBIDDEN = ("wrong", "lost", "damage", "deadlocks", "errors", "old recipe left")


def play(folder, *more):
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, str(SECONDS), *more],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        cwd=PROGRAM.parents[2],
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    wrong = {name: n for name, n in counts.items() if n and name.startswith(FORBIDDEN)}
    wrong |= {name: n for name, n in counts.items() if n and "lost" in name}
    assert wrong == {}, done.stderr
    return counts


@pytest.mark.slow
def test_no_row_is_wrong_or_lost(tmp_path):
    counts = play(tmp_path)
    assert counts["reads"] > 20
    assert counts["rows written"] > 200
    assert counts["kills"] > 3
    assert counts["parts joined"] > 10
    assert counts.get("reads of removed rows", 0) == 0
    # what no process used went, what they use stayed
    assert counts["things pruned"] > 0
    assert counts["things spared"] > 0


@pytest.mark.slow
def test_no_row_is_wrong_where_all_is_removed_now_and_then(tmp_path):
    counts = play(tmp_path, "ruthless")
    assert counts["reads"] > 20
    assert counts["rm -rf"] > 1
    assert counts["prunes"] > 3
