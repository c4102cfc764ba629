"""The one JSON of a run, rewritten as it grows, never half."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from benchmarks.gpu import processes

RESULTS = processes.ROOT / "benchmarks" / "results"
LOG_BYTES = 500_000  # of each log, its end


def slug(name: str) -> str:
    """ "NVIDIA H100 80GB HBM3" as a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "gpu"


class Report:
    """What is known so far. Saving replaces the file, and copies it and the logs to ``$OUT``."""

    def __init__(self, path: Path | None = None, out: str | None = None) -> None:
        self.path = path or processes.SCRATCH / "report.json"
        self.out = Path(out) if out else None
        self.data: dict[str, Any] = {"machine": {}, "stages": {}, "measurements": []}

    def stage(self, name: str) -> dict[str, Any]:
        """The entry of a stage, which the stage adds to."""
        entry: dict[str, Any] = self.data["stages"].setdefault(name, {})
        return entry

    def name_after(self, device: str, folder: Path = RESULTS) -> None:
        """From now on it is saved under the device's name."""
        self.path = folder / f"{slug(device)}.json"

    def keep_earlier_stages(self) -> None:
        """What the last run on this device did and this one has not begun, marked as earlier."""
        try:
            stages = json.loads(self.path.read_text())["stages"]
        except (OSError, ValueError, KeyError):
            return
        for name, entry in stages.items():
            self.data["stages"].setdefault(name, {**entry, "earlier": True})

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
            shutil.copyfile(self.path, self.out / self.path.name)
            with open(self.out / "logs.txt", "wb") as logs:
                for source in sorted(processes.SCRATCH.glob("*.log")):
                    logs.write(f"\n===== {source.name}\n".encode())
                    logs.write(source.read_bytes()[-LOG_BYTES:])
        except OSError as error:
            self.data["out"] = str(error)
