"""The set-up says plainly what it lacks. (Runs without any server.)"""

import os
import shutil
import subprocess
from pathlib import Path

SETUP = Path(__file__).parent / "setup.sh"
BASICS = (
    "sh", "sed", "cat", "sha256sum", "cut", "id", "dirname", "mkdir", "rm", "cp", "tail", "printf",
)  # fmt: skip


def test_without_node_it_names_node_and_fails(tmp_path: Path) -> None:
    only = tmp_path / "bin"
    only.mkdir()
    for name in BASICS:
        found = shutil.which(name)
        assert found is not None
        (only / name).symlink_to(found)
    done = subprocess.run(
        [only / "sh", str(SETUP)],
        env={"PATH": str(only), "KOBS_E2E_DIR": str(tmp_path / "e2e")},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "lacking: Node.js" in done.stderr
    assert not os.path.exists(tmp_path / "e2e" / "mockotlp" / ".made-of")
