"""Claims about Ctrl-C while libraries load: one line and status 130, whatever becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Presses Ctrl-C as a module begins to load, and lets its import fail as NumPy's does then.
PRESS = """
import os, runpy, signal, sys
module, *arguments = sys.argv[1:]
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PRESS_AT"]:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass
            except KeyboardInterrupt:
                raise AttributeError("module 'numpy._core' has no attribute 'x'") from None
sys.meta_path.insert(0, Press())
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("at", "command", "prog"),
    [
        ("jsonargparse", ["facenet_ext.cli", "verify", "a", "b"], "facenet verify"),
        ("torch", ["facenet_ext.cli", "verify", "a", "b"], "facenet verify"),
        ("lightning", ["facenet_ext.cli", "train"], "facenet train"),
        ("jsonargparse", ["facenet_ext.train"], "python -m facenet_ext.train"),
        ("torch", ["facenet_ext.train"], "python -m facenet_ext.train"),
        ("PIL", ["examples.demo"], "python -m examples.demo"),
        ("torch", ["examples.demo"], "python -m examples.demo"),
        ("torch", ["examples.speakers", "a", "b"], "python -m examples.speakers"),
        ("scipy", ["examples.speakers", "a", "b"], "python -m examples.speakers"),
    ],
)
def test_ctrl_c_while_libraries_load_ends_in_a_line(
    tmp_path: Path, at: str, command: list[str], prog: str
) -> None:
    if command[0].startswith("examples") and not (ROOT / "examples").is_dir():
        pytest.skip("the examples come with the source")
    path = os.pathsep.join([str(ROOT), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", PRESS, *command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=dict(os.environ, PRESS_AT=at, PYTHONPATH=path),
    )
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == f"{prog}: stopped\n"
