"""What a process found, an object on each line of a file: a killed one leaves what it has."""

import json
import os
import traceback
from pathlib import Path
from typing import Any

VARIABLE = "FACENET_GPU_RECORDS"


def write(kind: str, **fields: Any) -> None:
    """Append one record to the file that the environment names; print it where it names none."""
    line = json.dumps({"kind": kind, **fields}, default=str)
    path = os.environ.get(VARIABLE)
    if path is None:
        print(line, flush=True)
        return
    with open(path, "a") as file:
        file.write(line + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """All records of a file; none without a file. The last line may be cut short."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def error_text(error: BaseException) -> str:
    """The type and the message, short, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:600]}{where}"


def is_fatal(text: str) -> bool:
    """Whether the error has cost the process its CUDA context: nothing works there any more."""
    words = (
        "illegal memory access",
        "illegal address",
        "illegal instruction",
        "misaligned address",
    )
    words += ("unspecified launch failure", "device-side assert", "launch timed out")
    words += ("illegalAddress", "cudaErrorIllegal", "cudaErrorLaunchFailure", "cudaErrorMisaligned")
    return any(word in text for word in words)
