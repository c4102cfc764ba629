"""Stage: every operator once on the GPU, against the CPU: `python -m benchmarks.gpu.smoke`."""

import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu import processes, records
from benchmarks.gpu.stages import Entry, StageFailure

Outputs = tuple[torch.Tensor, ...]


def calls(device: str) -> list[tuple[str, Callable[[], Outputs]]]:
    """Named calls on a device; on integers, whose results are the same on every device."""
    import facenet_ext

    generator = torch.Generator().manual_seed(0)

    def batch(n: int, dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randint(-3, 4, (n, dim), generator=generator).to(device, dtype)
        return x, (torch.arange(n) % (n // 4)).to(device)

    def step(x: torch.Tensor, y: torch.Tensor, bound: int | None) -> Outputs:
        x = x.detach().requires_grad_()
        loss = facenet_ext.mined_triplet_loss(x, y, 2.0, max_per_class=bound)
        return loss.detach(), *torch.autograd.grad(loss, x)

    def given(x: torch.Tensor, y: torch.Tensor) -> Outputs:
        x = x.detach().requires_grad_()
        triplets = facenet_ext.select_triplets(x, y)
        loss = facenet_ext.triplet_loss(x, triplets, 2.0)
        return loss.detach(), *torch.autograd.grad(loss, x)

    found: list[tuple[str, Callable[[], Outputs]]] = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for n, dim in ((32, 8), (300, 128)):
            x, y = batch(n, dim, dtype)
            told = f"{str(dtype).removeprefix('torch.')} N={n} D={dim}"
            found += [
                (f"distances {told}", lambda x=x: (facenet_ext.pairwise_squared_distance(x),)),
                (f"selection {told}", lambda x=x, y=y: tuple(facenet_ext.select_triplets(x, y))),
                (f"loss of given triplets {told}", lambda x=x, y=y: given(x, y)),
                (f"mined loss {told}", lambda x=x, y=y: step(x, y, None)),
                (f"mined loss, max_per_class {told}", lambda x=x, y=y: step(x, y, 8)),
            ]
    return found


def check(device: str) -> list[dict[str, Any]]:
    """Each call's name, and what is wrong where something is."""
    found = []
    for (name, there), (_, here) in zip(calls(device), calls("cpu"), strict=True):
        told: dict[str, Any] = {"call": name}
        try:
            for actual, expected in zip(there(), here(), strict=True):
                # One rounding of a gradient in bfloat16 may go either way.
                torch.testing.assert_close(actual.cpu(), expected, rtol=2**-7, atol=1e-4)
        except Exception as error:
            told["error"] = records.error_text(error)
        records.write("smoke", **told)
        found.append(told)
        if records.is_fatal(told.get("error", "")):
            break
    return found


def stage(seconds: float, entry: Entry) -> None:
    code = processes.run(processes.python("benchmarks.gpu.smoke"), name="smoke", seconds=seconds)
    found = records.read(processes.record_path("smoke"))
    wrong = [record for record in found if "error" in record]
    entry["calls"], entry["wrong"] = len(found), wrong
    entry["summary"] = f"{len(found) - len(wrong)} of {len(found)} calls right"
    if wrong or not found:
        told = wrong[0]["error"] if wrong else processes.tail("smoke", 600)
        raise StageFailure(f"{entry['summary']}: {told}")
    if code:
        raise StageFailure(f"exit status {code}: {processes.tail('smoke', 600)}")


if __name__ == "__main__":
    sys.exit(any("error" in told for told in check("cuda")))
