"""The one JSON of a run, rewritten as it grows, never half."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from benchmarks.gpu.processes import ROOT, SCRATCH

RESULTS = ROOT / "benchmarks" / "results"


def slug(name: str) -> str:
    """ "NVIDIA H100 80GB HBM3" as a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "gpu"


class Report:
    """What is known so far. Saving replaces the file, and copies it and the logs to ``$OUT``."""

    def __init__(self, path: Path = SCRATCH / "report.json", out: str | None = None) -> None:
        self.path = path
        self.out = Path(out) if out else None
        self.data: dict[str, Any] = {"machine": {}, "stages": {}, "measurements": []}

    def stage(self, name: str) -> dict[str, Any]:
        """The entry of a stage, which the stage adds to."""
        entry: dict[str, Any] = self.data["stages"].setdefault(name, {})
        return entry

    def name_after(self, device: str, folder: Path = RESULTS) -> None:
        """From now on it is saved under the device's name."""
        self.path = folder / f"{slug(device)}.json"

    def save(self) -> None:
        """Writes the file in one step. That `$OUT` cannot be written to stops nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.data, indent=1, default=str) + "\n")
        os.replace(part, self.path)
        if self.out is None:
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            for source in (self.path, *sorted(SCRATCH.glob("*.log"))):
                shutil.copyfile(source, self.out / source.name)
        except OSError as error:
            self.data["out"] = str(error)
