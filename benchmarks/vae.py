"""Stock `AutoencoderKLQwenImage` and packshot's, reduced by `single_frame`: milliseconds a picture, and peak memory.

    python -m benchmarks.vae --out out/vae.json   # full size, random weights, one GPU
    python -m benchmarks.vae --profile            # and where the time of a 1024² picture goes
    python -m benchmarks.vae --tiny               # does this script work? on the CPU

Speed and memory don't depend on the values of weights, so the full size needs no checkpoint. A difference is the
largest from stock's decode in float32, in percent of that picture's range; stock in bfloat16 has one too.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.results import tell
from models.architectures.qwen_image.single_frame import single_frame
from models.loading.component import loading
from models.units import GIB

TIMED = 7  # decodes, after WARM that aren't
WARM = 2
PROFILED = 3
KERNELS = 12  # in a profile
TINY = {"base_dim": 8, "num_res_blocks": 1}


@dataclass(frozen=True)
class Workload:
    """Pictures that are decoded together."""

    size: int  # pixels, square
    channels: int  # 4 is the layered VAE
    rows: int

    def latents(self, vae: AutoencoderKLQwenImage) -> Tensor:
        """Random latents [B, 16, 1, H/8, W/8], the same for every VAE but for the precision."""
        side = self.size // vae.spatial_compression_ratio
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.rows, vae.config.z_dim, 1, side, side, generator=generator).to(vae.device, vae.dtype)


@dataclass(frozen=True)
class Result:
    """What one VAE took for one workload."""

    system: str
    size: int
    channels: int
    rows: int
    milliseconds: float  # a picture: the median of several decodes
    peak_gib: float | None  # weights of all three VAEs included; None on the CPU
    difference: float  # of the first picture from stock's in float32, as a share of that one's range


def new_vae(channels: int, device: torch.device, tiny: bool) -> AutoencoderKLQwenImage:
    """A VAE with random weights in float32, whose norms scale by other numbers than one."""
    torch.manual_seed(0)
    vae = AutoencoderKLQwenImage(input_channels=channels, **(TINY if tiny else {})).to(device)
    for name, parameter in vae.requires_grad_(False).named_parameters():
        if name.endswith("gamma"):
            parameter.normal_(1, 0.2)
    return vae.eval()


def in_precision(vae: AutoencoderKLQwenImage, tiny: bool) -> AutoencoderKLQwenImage:
    """`vae` in the precision that is measured, in place."""
    with loading():
        return vae.to(torch.float32 if tiny else torch.bfloat16)


def timed(decode: Callable[[], object], device: torch.device) -> float:
    """The median milliseconds of a decode, once kernels and memory are found."""
    for _ in range(WARM):
        decode()
    if device.type != "cuda":
        durations = []
        for _ in range(TIMED):
            began = time.perf_counter()
            decode()
            durations.append(1000 * (time.perf_counter() - began))
        return statistics.median(durations)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(TIMED + 1)]
    marks[0].record()
    for mark in marks[1:]:
        decode()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(one.elapsed_time(other) for one, other in pairwise(marks))


def measure(system: str, vae: AutoencoderKLQwenImage, workload: Workload, reference: Tensor) -> Result:
    """Time one workload on one VAE; `reference` is its first picture by stock in float32, [1, C, 1, H, W]."""
    latents, device = workload.latents(vae), vae.device
    picture = vae.decode(latents[:1]).sample.float()
    difference = (picture - reference).abs().max() / (reference.max() - reference.min())
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    result = Result(
        system=system,
        size=workload.size,
        channels=workload.channels,
        rows=workload.rows,
        milliseconds=timed(lambda: vae.decode(latents), device) / workload.rows,
        peak_gib=torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else None,
        difference=float(difference),
    )
    print(line(result), flush=True)
    return result


def line(result: Result) -> str:
    """One row of the table."""
    peak = f"{result.peak_gib:6.2f}" if result.peak_gib is not None else " " * 6
    return (
        f"{result.system:9} {result.size:5}² {result.channels:8} {result.rows:4} {result.milliseconds:10.2f} "
        f"{peak} {100 * result.difference:12.4f}"
    )


HEADER = "system      size channels rows ms/picture   peak difference/%"


def compare(channels: int, sizes: tuple[int, ...], device: torch.device, tiny: bool) -> list[Result]:
    """Every size, one picture and four at once, on stock and on packshot."""
    exact = new_vae(channels, device, tiny)
    stock = in_precision(copy.deepcopy(exact), tiny)
    ours = single_frame(copy.deepcopy(stock))
    results = []
    for size in sizes:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            reference = exact.decode(Workload(size, channels, 1).latents(stock).float()).sample
        for rows in (1, 4):
            workload = Workload(size, channels, rows)
            results += [measure(name, vae, workload, reference) for name, vae in (("stock", stock), ("packshot", ours))]
    return results


def print_profile(device: torch.device, tiny: bool) -> None:
    """Where the time of one picture goes: the kernels (on the CPU: the operations) that take most of it."""
    vae = single_frame(in_precision(new_vae(3, device, tiny), tiny))
    latents = Workload(64 if tiny else 1024, 3, 1).latents(vae)
    for _ in range(WARM):
        vae.decode(latents)
    on_cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU]) as profiled:
        for _ in range(PROFILED):
            vae.decode(latents)
        if on_cuda:
            torch.cuda.synchronize()
    kind = DeviceType.CUDA if on_cuda else DeviceType.CPU
    spent = [
        ((event.self_device_time_total if on_cuda else event.self_cpu_time_total) / 1000, event.count, event.key)
        for event in profiled.key_averages()
        if event.device_type == kind
    ]
    print(f"\n{sum(each for each, _, _ in spent) / PROFILED:8.2f} ms a picture in all, of which")
    for milliseconds, count, name in sorted(spent, reverse=True)[:KERNELS]:
        print(f"{milliseconds / PROFILED:8.3f} ms in {count // PROFILED:3} times {name[:90]}")


@torch.inference_mode()
def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on the CPU, to test this script")
    parser.add_argument("--profile", action="store_true", help="also print where the time of a 1024² picture goes")
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    arguments = parser.parse_args()
    tiny = arguments.tiny
    device = torch.device("cpu") if tiny else torch.device("cuda", 0)

    print(HEADER)
    results = compare(3, (64, 32) if tiny else (1024, 512), device, tiny)
    results += compare(4, (40,) if tiny else (640,), device, tiny)
    if arguments.profile:
        print_profile(device, tiny)
    tell(arguments.out, on_cpu=tiny, results=list(map(asdict, results)))


if __name__ == "__main__":
    main()
