"""How good the miniature is: python -m benchmarks.miniature --pictures 64

Asks the shipped pipeline for pictures of prompts in word orders that training never saw, half of them of pairs of kind
and colour that it never saw together, and lets the judge (`benchmarks/judge.safetensors`, trained on drawings alone)
say what the pictures show. Asks the shipped CLIP what drawings and generated pictures show, and how far apart it holds
what a shop may show and what not. Prints a table and writes JSON.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import open_clip
import torch
from diffusers import QwenImagePipeline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.architectures.qwen_image.single_frame import single_frame
from models.miniature.datasets.drawings import SHAPES
from models.miniature.datasets.trials import Trial, asked, pictures, trials
from models.miniature.language.captions import caption
from models.miniature.language.names import COLOUR_NAMES, KIND_NAMES, Language
from models.miniature.train import contact_sheet
from models.miniature.training.judge import Judge, agreement, load_judge
from models.miniature.world.world import COLOURS, FORBIDDEN, KINDS, Scene, draw, random_scene

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "models" / "miniature" / "weights"
FAULTS = {
    "banner": "a photo with a sale banner",
    "watermark": "a photo with a watermark",
    "border": "a photo with a coloured border",
}
EXEMPT = ("a product photo", "a kitchen knife", "a photo of a product on a white background")


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    figure: float
    unit: str


class Eye:
    """The shipped CLIP, as packshot opens it."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Open the model in `folder` with open_clip."""
        self.model, self.preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}", device=device)
        self.tokenizer, self.device = open_clip.get_tokenizer(f"local-dir:{folder}"), device
        self.model.eval()

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: [N, D] of length one."""
        ids = self.tokenizer(list(texts)).to(self.device)
        return torch.cat([self.model.encode_text(chunk, normalize=True) for chunk in ids.split(256)])

    @torch.no_grad()
    def see(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Embed pictures, each uint8 [H, W, 3]: [N, D] of length one."""
        rows = []
        for start in range(0, len(pictures), 256):
            chunk = [self.preprocess(Image.fromarray(each)) for each in pictures[start : start + 256]]
            rows.append(self.model.encode_image(torch.stack(chunk).to(self.device), normalize=True))
        return torch.cat(rows)


def named(table: dict[str, dict[Language, tuple[str, ...]]], language: Language) -> list[str]:
    """A phrase for each entry of a table of names."""
    frame = "a photo of a {}" if language == "en" else "一张{}的图片"
    return [frame.format(names[language][0]) for names in table.values()]


def found(embeds: Tensor, phrases: Tensor, truth: Sequence[int]) -> float:
    """The share of embeds [N, D] whose nearest phrase [P, D] is the true one."""
    return float(((embeds @ phrases.T).argmax(1).cpu() == torch.tensor(truth)).float().mean())


def gap(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """How well scores [N] tell positives: area under the ROC curve; their lowest 1 % less the others' highest 1 %."""
    yes, no = scores[positive], scores[~positive]
    if not len(yes) or not len(no):
        return float("nan"), float("nan")
    area = (yes[:, None] > no[None]).float().mean()
    return float(area), float(yes.quantile(0.01) - no.quantile(0.99))


def generated(
    pipeline: QwenImagePipeline, posed: list[Trial], batch: int, steps: int, guidance: float
) -> tuple[Tensor, float]:
    """Pictures of trials of one shape, uint8 [N, H, W, 3], and seconds a picture."""
    began = time.perf_counter()
    first = posed[0].scene
    made = pictures(
        pipeline,
        [trial.prompt for trial in posed],
        width=first.width,
        height=first.height,
        steps=steps,
        guidance=guidance,
        batch=batch,
    )
    return made, (time.perf_counter() - began) / len(posed)


def judged(name: str, judge: Judge, made: Tensor, posed: list[Trial]) -> list[Row]:
    """What the judge finds in pictures of trials: all of them, and those of unseen pairs."""
    verdict, truth = judge.verdict(made), asked(posed)
    unseen = torch.tensor([trial.held_out for trial in posed], device=verdict.device)
    rows = [Row(f"{name}: {key}", 100 * value, "%") for key, value in asdict(agreement(verdict, truth)).items()]
    apart = agreement(verdict[unseen], truth[unseen.cpu()])
    return [
        *rows,
        Row(f"{name}: kind, pairs never seen", 100 * apart.kind, "%"),
        Row(f"{name}: colour, pairs never seen", 100 * apart.colour, "%"),
    ]


def clip_on_drawings(eye: Eye, count: int) -> list[Row]:
    """What CLIP finds in new drawings, half of them of unseen pairs."""
    random = Random("drawings for CLIP")
    scenes = [random_scene(random, held_out=index % 2 == 1) for index in range(count)]
    embeds = eye.see([draw(scene, random).picture for scene in scenes])
    kinds, colours = [KINDS.index(scene.kind) for scene in scenes], [COLOURS.index(scene.colour) for scene in scenes]
    rows = [
        Row("CLIP, drawings: kind", 100 * found(embeds, eye.read(named(KIND_NAMES, "en")), kinds), "%"),
        Row("CLIP, drawings: kind, Chinese", 100 * found(embeds, eye.read(named(KIND_NAMES, "zh")), kinds), "%"),
        Row("CLIP, drawings: colour", 100 * found(embeds, eye.read(named(COLOUR_NAMES, "en")), colours), "%"),
    ]
    return rows + separated("picture", eye, embeds, scenes)


def clip_on_prompts(eye: Eye, count: int) -> list[Row]:
    """How CLIP reads prompts: English and Chinese, of every kind."""
    random = Random("prompts for CLIP")
    scenes = [random_scene(random, held_out=None) for _ in range(count)]
    languages: tuple[Language, Language] = ("en", "zh")
    texts = [caption(scene, random, language=languages[i % 2], split="test") for i, scene in enumerate(scenes)]
    embeds = eye.read(texts)
    kinds = [KINDS.index(scene.kind) for scene in scenes]
    right = found(embeds, eye.read(named(KIND_NAMES, "en")), kinds)
    return [Row("CLIP, prompts: kind", 100 * right, "%"), *separated("prompt", eye, embeds, scenes)]


def separated(what: str, eye: Eye, embeds: Tensor, scenes: list[Scene]) -> list[Row]:
    """How far apart concepts hold pictures or prompts: cosine to the concept less that to the nearest exempt phrase."""
    exempt = (embeds @ eye.read(EXEMPT).T).max(1).values
    forbidden = torch.tensor([scene.kind in FORBIDDEN for scene in scenes])
    concepts = eye.read([f"a {KIND_NAMES[kind]['en'][0]}" for kind in FORBIDDEN])
    scores = ((embeds @ concepts.T).max(1).values - exempt).cpu()
    area, margin = gap(scores, forbidden)
    rows = [
        Row(f"CLIP, {what} to forbidden concept: ROC area", 100 * area, "%"),
        Row(f"CLIP, {what} to forbidden concept: gap of cosines", margin, ""),
    ]
    for fault, phrase in FAULTS.items():
        scores = ((embeds @ eye.read([phrase]).T)[:, 0] - exempt).cpu()
        area, margin = gap(scores, torch.tensor([scene.fault == fault for scene in scenes]))
        rows.append(Row(f"CLIP, {what} to {fault}: ROC area", 100 * area, "%"))
        rows.append(Row(f"CLIP, {what} to {fault}: gap of cosines", margin, ""))
    return rows


def processor_seconds(folder: Path, steps: int, guidance: float) -> float:
    """Seconds a 256 x 256 picture on two processor cores, fp32, in a batch of eight."""
    pipeline = QwenImagePipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    single_frame(pipeline.vae)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    posed = trials(8, "en", 5)
    generated(pipeline, posed, 8, 2, guidance)
    seconds = min(generated(pipeline, posed, 8, steps, guidance)[1] for _ in range(2))
    torch.set_num_threads(threads)
    return seconds


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Take all measures."""
    device = torch.device(arguments.device)
    folder = arguments.weights / "qwen-image"
    sampling = json.loads((folder / "sampling_config.json").read_text(encoding="utf-8"))
    steps, guidance = arguments.steps or sampling["steps"], arguments.guidance or sampling["guidance"]
    print(f"{steps} steps, guidance {guidance}, {arguments.precision}, {device}")
    pipeline = QwenImagePipeline.from_pretrained(folder, dtype=getattr(torch, arguments.precision)).to(device)
    pipeline.set_progress_bar_config(disable=True)
    judge, eye = load_judge(arguments.judge, device), Eye(arguments.weights / "clip", device)

    posed = trials(arguments.pictures, "en", 0)
    made, seconds = generated(pipeline, posed, arguments.batch, steps, guidance)
    rows = [Row(f"a picture, {device}", seconds, "s"), *judged("English", judge, made, posed)]
    kinds = [KINDS.index(trial.scene.kind) for trial in posed]
    seen = found(eye.see(list(made.cpu().numpy())), eye.read(named(KIND_NAMES, "en")), kinds)
    rows.append(Row("CLIP, generated pictures: kind", 100 * seen, "%"))
    if arguments.sheet:
        contact_sheet(made[:96], arguments.sheet)
        listing = "\n".join(f"{i:3d} {trial.prompt}" for i, trial in enumerate(posed[:96]))
        arguments.sheet.with_suffix(".txt").write_text(listing + "\n", encoding="utf-8")

    posed = trials(max(2, arguments.pictures // 2), "zh", 0)
    rows += judged("Chinese", judge, generated(pipeline, posed, arguments.batch, steps, guidance)[0], posed)
    if arguments.shapes:
        for width, height in SHAPES:
            posed = trials(max(2, arguments.pictures // 4), "en", 2, width=width, height=height)
            made, _ = generated(pipeline, posed, arguments.batch, steps, guidance)
            rows += judged(f"{width}x{height}", judge, made, posed)[:2]
    rows += faults(pipeline, judge, eye, arguments, steps, guidance)
    rows += clip_on_drawings(eye, arguments.drawings) + clip_on_prompts(eye, arguments.drawings)
    rows.append(Row("a picture, two processor cores", processor_seconds(folder, steps, guidance), "s"))
    size = sum(path.lstat().st_size for path in arguments.weights.rglob("*") if path.is_file())  # links are shared
    return [*rows, Row("weights", size / 2**20, "MiB")]


def faults(
    pipeline: QwenImagePipeline, judge: Judge, eye: Eye, arguments: argparse.Namespace, steps: int, guidance: float
) -> list[Row]:
    """Whether a fault that a prompt asks for is in the picture, and whether CLIP tells it by the policy's phrase."""
    random = Random("faults")
    posed = []
    for index, trial in enumerate(trials(max(8, arguments.pictures // 2), "en", 3)):
        scene = replace(trial.scene, fault=("none", *FAULTS)[index % 4])
        posed.append(Trial(scene, caption(scene, random, language="en", split="test"), trial.held_out))
    made, _ = generated(pipeline, posed, arguments.batch, steps, guidance)
    rows = [Row("faults asked for: found by the judge", 100 * agreement(judge.verdict(made), asked(posed)).fault, "%")]
    embeds = eye.see(list(made.cpu().numpy()))
    scenes = [trial.scene for trial in posed]
    return rows + [
        replace(row, what=row.what.replace("picture", "generated picture"))
        for row in separated("picture", eye, embeds, scenes)
    ]


def report(rows: list[Row], path: Path) -> None:
    """Print figures as a table and write them as JSON."""
    for row in rows:
        print(f"{row.what:64s} {row.figure:8.3f} {row.unit}")
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--pictures", type=int, default=512 if cuda else 32, help="pictures for the English trials")
    parser.add_argument("--drawings", type=int, default=2000, help="drawings and prompts for CLIP")
    parser.add_argument("--batch", type=int, default=64 if cuda else 8)
    parser.add_argument("--steps", type=int, help="instead of the checkpoint's own")
    parser.add_argument("--guidance", type=float, help="instead of the checkpoint's own")
    parser.add_argument("--shapes", action="store_true", help="measure every shape of the training set")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--judge", type=Path, default=HERE / "judge.safetensors")
    parser.add_argument("--sheet", type=Path, help="write the first 96 pictures as one PNG, the prompts beside it")
    parser.add_argument("--json", type=Path, default=HERE / "miniature.json")
    arguments = parser.parse_args()
    report(measure(arguments), arguments.json)


if __name__ == "__main__":
    main()
