"""Who installs the package and runs mypy on a script of their own sees its types."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

import facenet_ext

SCRIPT = """
import facenet_ext

loss = facenet_ext.TripletSemiHardLoss(margin=0.2)
reveal_type(loss.margin)
reveal_type(facenet_ext.build_info())
reveal_type(facenet_ext.MPerClassSampler([0, 0, 1, 1], m=2, classes=2).batch(0))
facenet_ext.TripletSemiHardLoss(margin="wide")
"""


def test_a_script_of_a_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment that has this package and, for the sake of time, not torch."""
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(tmp_path)  # what lies here would be read as the user's own
    for name in ("PYTHONPATH", "MYPYPATH"):
        monkeypatch.delenv(name, raising=False)
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "facenet_ext").symlink_to(Path(facenet_ext.__file__).parent)
    (tmp_path / "script.py").write_text(SCRIPT)
    out, err, _ = api.run(
        [
            f"--python-executable={tmp_path}/env/bin/python",
            f"--cache-dir={tmp_path}/cache",
            "--config-file=",
            "script.py",
        ]
    )
    told = [line.partition(":")[2] for line in (out + err).splitlines()]
    assert told[:-1] == [
        '5: note: Revealed type is "float"',
        '6: note: Revealed type is "dict[str, Any]"',
        '7: note: Revealed type is "list[int]"',
        '8: error: Argument "margin" to "TripletSemiHardLoss" has incompatible type "str"; '
        'expected "float"  [arg-type]',
    ]
