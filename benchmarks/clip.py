"""How much of a CLIP tower's raw throughput is left when packshot feeds it pictures and texts.

    python -m benchmarks.clip                                              # the miniature's
    python -m benchmarks.clip --tower ViT-B-16-SigLIP2 --side 1024 --device cuda

Raw is the tower on tensors that lie ready on its device, in the same batches and the same precision; ours begins with
pictures, uint8 [H, W, 3], or with texts, and ends with embeddings on the host. Both take turns in one run, and the
median of each counts. A tower that is named has random weights, which cost the same time, and reads texts through
open_clip's own tokenizer, the slowest of those that there are. With --stock, open_clip's own preprocessing is timed,
too, picture by picture as it comes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.results import tell
from models.checkpoints.checkpoint import find_clip
from models.checkpoints.clip_settings import text_tower
from models.clip.clip import BATCH, Clip
from models.clip.clip_pixels import Pixels
from models.clip.clip_windows import Windows
from models.devices.device import find_device
from models.loading.component import loading
from models.miniature.language.captions import caption
from models.miniature.world.world import random_scene

LEAST = 0.9  # of the raw throughput: what is aimed at
MOST_PIXELS = 64 << 20  # of all pictures together, that are different; more are the same again


def open_tower(name: str, device: str) -> Clip:
    """The miniature's CLIP, or an architecture of open_clip's with random weights."""
    if name == "miniature":
        return Clip.load(find_clip("miniature"), device=device)
    settings = open_clip.get_model_config(name)
    if settings is None:
        raise SystemExit(f"open_clip has no architecture {name}; open_clip.list_models() has them all.")
    found = find_device(device)
    with loading(), TemporaryDirectory() as nothing, text_tower(Path(nothing), settings) as tower:
        torch.manual_seed(0)
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False, device=found, **tower)
    length = settings["text_cfg"].get("context_length", 77)
    windows = Windows(open_clip.SimpleTokenizer(context_length=length), name)
    return Clip(model.eval().requires_grad_(False), windows, Pixels.of(model.visual.preprocess_cfg), found)


@torch.inference_mode()
def raw(encode: Callable[..., torch.Tensor], ready: list[torch.Tensor]) -> np.ndarray:
    """The tower alone."""
    embeds: np.ndarray = torch.cat([encode(batch, normalize=True).float() for batch in ready]).cpu().numpy()
    return embeds


def pictures(count: int, side: int) -> list[np.ndarray]:
    """Pictures of noise; where that is more than fits well, the same ones again."""
    random = np.random.default_rng(0)
    different = max(1, min(count, MOST_PIXELS // side**2))
    made = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(different)]
    return [made[at % different] for at in range(count)]


def texts(count: int) -> list[str]:
    """Captions of the drawn world, English and Chinese in turn, each once."""
    random = Random(0)
    return [caption(random_scene(random), random, language=("en", "zh")[at % 2]) for at in range(count)]


def compare(rounds: int, **ways: Callable[[], np.ndarray]) -> dict[str, float]:
    """The median seconds of each way, taking turns, after one turn to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                taken[name].append(time.perf_counter() - began)
    return {name: median(seconds) for name, seconds in taken.items()}


def measure_pictures(clip: Clip, count: int, side: int, rounds: int, *, stock: bool) -> dict[str, Any]:
    """Pictures of one side."""
    shown = pictures(count, side)
    batches = [shown[start : start + BATCH] for start in range(0, count, BATCH)]
    ready = [clip.pixels.normalised(clip.pixels.fit(batch).to(clip.device)) for batch in batches]
    ways = {"raw": lambda: raw(clip.model.encode_image, ready), "ours": lambda: clip.embed_pictures(shown)}
    if stock:
        prepare = image_transform_v2(PreprocessCfg(**clip.model.visual.preprocess_cfg), is_train=False)

        def one_by_one() -> np.ndarray:
            fitted = (torch.stack([prepare(Image.fromarray(one)) for one in batch]) for batch in batches)
            return raw(clip.model.encode_image, [batch.to(clip.device) for batch in fitted])

        ways["stock"] = one_by_one
    return figures(f"pictures, {side}²", count, compare(rounds, **ways))


def measure_texts(clip: Clip, count: int, rounds: int) -> dict[str, Any]:
    """Captions, most of which are one window."""
    read = texts(count)
    windows = torch.cat(clip.windows.of(read))
    ready = [batch.to(clip.device) for batch in windows.split(BATCH)]
    seconds = compare(
        rounds, raw=lambda: raw(clip.model.encode_text, ready), ours=lambda: np.concatenate(clip.embed_windows(read))
    )
    return figures("texts", count, seconds)


def figures(what: str, count: int, seconds: dict[str, float]) -> dict[str, Any]:
    """A row of the table."""
    rates = {name: count / taken for name, taken in seconds.items()}
    return {"what": what, "count": count, **rates, "share": rates["ours"] / rates["raw"]}


def main() -> int:
    """Measure; 1 where less than nine tenths are left."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--tower", default="miniature", help="miniature, or an architecture of open_clip's")
    parser.add_argument("--side", type=int, action="append", help="pixels; may be given again [default: 256, 1024]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stock", action="store_true", help="time open_clip's own preprocessing, too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    clip = open_tower(arguments.tower, arguments.device)
    rows = [
        measure_pictures(clip, arguments.pictures, side, arguments.rounds, stock=arguments.stock)
        for side in arguments.side or (256, 1024)
    ]
    rows.append(measure_texts(clip, arguments.texts, arguments.rounds))
    table = Table(title=f"{arguments.tower}, {clip.pixels.width}², a second", title_justify="left", box=None)
    for name in ("what", "of", "raw", "ours", "ours of raw", "open_clip's own way"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        stock = f"{row['stock']:.1f}" if "stock" in row else ""
        table.add_row(
            row["what"],
            str(row["count"]),
            f"{row['raw']:.1f}",
            f"{row['ours']:.1f}",
            f"{100 * row['share']:.1f} %",
            stock,
        )
    Console(width=120).print(table)
    tell(arguments.out, on_cpu=clip.device.type == "cpu", modules=(open_clip,), tower=arguments.tower, rows=rows)
    return 0 if all(row["share"] >= LEAST for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
