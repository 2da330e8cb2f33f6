"""Train the miniature: python -m models.miniature.train STAGE... --work DIR

Stages, in order: words, draw, layers, pairs, judge, shallow, vae, clip, transformer, layered-vae, layered, sight, edit.
A stage keeps its state in DIR and goes on from there when it is called again; `--minutes` stops a command in time
wherever it is, so that none takes more than ten on one H200. Stages can run side by side in commands of their own:
`--wait` waits for what another one makes. The shipped weights took 42 minutes on one H200 with 16 processor cores:
`words` beside `draw judge shallow vae`, then `transformer`, then `clip`. The layered model is made by `layers
layered-vae layered` in another 20, with the text encoder of a Qwen-Image that is there already. The edit model is made
by `draw pairs sight edit` from a Qwen-Image that is there already, whose transformer learns to edit beside drawing.
`edit` once more, with `--edit-from` that export and at a lower `--edit-rate`, goes on from there.
"""

import argparse
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.architectures.qwen_image.single_frame import single_frame
from models.checkpoints.checkpoint import MINIATURE
from models.miniature.datasets.drawings import Drawings, attributes, draw_all, load, random_captions
from models.miniature.datasets.edit_pairs import Pairs, draw_all_pairs, load_pairs
from models.miniature.datasets.layered_drawings import Layers, draw_all_layers, layers_of, load_layers, unseen_drawings
from models.miniature.datasets.phrases import random_phrase
from models.miniature.datasets.trials import asked, pictures, trials
from models.miniature.language import captions
from models.miniature.networks.architecture import (
    CLIP_CONTEXT,
    EditSampling,
    LayeredSampling,
    Sampling,
    deepened,
    new_edit_transformer,
    new_layered_vae,
    new_vae,
    put_back,
)
from models.miniature.networks.tokenizer import clip_tokenizer, prompt_tokenizer
from models.miniature.training.autoencoder import Lessons, PictureLessons, train_vae
from models.miniature.training.clip_training import train_clip
from models.miniature.training.denoiser import Denoiser, train_denoiser
from models.miniature.training.edit_trials import edit_trials, edited, found_by, pixels_of, referring_trials
from models.miniature.training.editing import PEAK_RATE as EDIT_RATE
from models.miniature.training.editing import train_editing
from models.miniature.training.export import (
    export_clip,
    export_edit,
    export_layered,
    export_pipeline,
    pipeline_of,
)
from models.miniature.training.judge import Judge, agreement, load_judge, save_judge, train_judge
from models.miniature.training.layered import train_layered
from models.miniature.training.layered_vae import LayerLessons
from models.miniature.training.matching import decomposer_of, match, puzzles, solved
from models.miniature.training.sight import Shown, train_sight
from models.miniature.training.words import train_words
from models.miniature.world.world import random_scene

STAGES = (
    *("words", "draw", "layers", "pairs", "judge", "shallow", "vae", "clip", "transformer", "layered-vae", "layered"),
    *("sight", "edit"),
)
SECONDS = {  # of training, on one H200
    "words": 120.0,
    "judge": 35.0,
    "shallow": 150.0,
    "vae": 600.0,
    "clip": 390.0,
    "transformer": 980.0,
    "layered-vae": 600.0,
    "layered": 480.0,
    "sight": 60.0,
    "edit": 1180.0,
}


@dataclass
class Training:
    """One command's work: where, on what, how long, and what the stages have made so far."""

    work: Path
    device: torch.device
    deadline: float
    seconds: dict[str, float]
    weights: Path
    judge_path: Path
    wait: bool
    captions: int
    processes: int
    qwen_image: Path
    edit_from: Path | None = None
    edit_rate: float = EDIT_RATE
    sampling: Sampling = field(default_factory=Sampling)
    layered_sampling: LayeredSampling = field(default_factory=LayeredSampling)
    edit_sampling: EditSampling = field(default_factory=EditSampling)
    drawings: list[Drawings] = field(default_factory=list)
    layers: list[Layers] = field(default_factory=list)
    pairs: list[Pairs] = field(default_factory=list)

    def loaded(self) -> list[Drawings]:
        """Return all drawings, read once."""
        if not self.drawings:
            self.drawings = load(self.work / "drawings", self.device)
            print(f"{'drawings':12s} {sum(map(len, self.drawings))} pictures", flush=True)
        return self.drawings

    def loaded_layers(self) -> list[Layers]:
        """Return all drawings in their parts, read once."""
        if not self.layers:
            self.layers = load_layers(self.work / "layers", self.device)
            print(f"{'layers':12s} {sum(map(len, self.layers))} drawings", flush=True)
        return self.layers

    def loaded_pairs(self) -> list[Pairs]:
        """Return all products in their scenes, read once."""
        if not self.pairs:
            self.pairs = load_pairs(self.work / "pairs", self.device)
            print(f"{'pairs':12s} {sum(len(each.pictures) for each in self.pairs)} pictures", flush=True)
        return self.pairs

    def made(self, path: Path) -> Path:
        """Return a file or folder that another stage makes.

        Raises:
            FileNotFoundError: if it isn't there, and this command doesn't wait.
        """
        while not path.exists():
            if not self.wait or time.monotonic() > self.deadline:
                raise FileNotFoundError(f"{path} isn't there: run the stages in order, {', '.join(STAGES)}")
            time.sleep(0.5)
        return path

    def prompt_tokenizer(self) -> Qwen2Tokenizer:
        """Return the pipeline's tokenizer, trained once."""
        folder = self.work / "tokenizer"
        if not folder.exists():
            _write(folder, prompt_tokenizer(prompt_texts()).save_pretrained)
        return Qwen2Tokenizer.from_pretrained(folder)

    def clip_tokenizer(self) -> PreTrainedTokenizerFast:
        """CLIP's tokenizer, trained once."""
        folder = self.work / "clip-tokenizer"
        if not folder.exists():
            _write(folder, clip_tokenizer(clip_texts(), CLIP_CONTEXT).save_pretrained)
        return PreTrainedTokenizerFast.from_pretrained(folder)

    def train_judge(self) -> None:
        """Train the judge and write it to where benchmarks look for it."""
        save_judge(
            train_judge(self.loaded(), self.seconds["judge"], self.work, self.deadline, self.device), self.judge_path
        )

    def judge(self) -> Judge:
        """Return the trained judge."""
        return load_judge(self.made(self.judge_path), self.device).requires_grad_(False)

    def train_vae(self, name: str) -> None:
        """Train the shallow VAE, or from it the deep one."""
        vae = new_vae(shallow=True)
        if name == "vae":
            vae = deepened(AutoencoderKLQwenImage.from_pretrained(self.made(self.work / "shallow")))
        self._train_vae(name, vae, PictureLessons(self.loaded(), self.judge()))

    def train_layered_vae(self) -> None:
        """Train the layered VAE."""
        unseen = [each for faulty in (False, True) for each in unseen_drawings(32, 0, faulty=faulty)]
        held_back = torch.stack([torch.from_numpy(layers_of(each)) for each in unseen]).to(self.device)
        self._train_vae("layered-vae", new_layered_vae(), LayerLessons(self.loaded_layers(), held_back))

    def _train_vae(self, name: str, vae: AutoencoderKLQwenImage, lessons: Lessons) -> None:
        vae = train_vae(name, vae, lessons, self.seconds[name], self.work, self.deadline, self.device)
        _write(self.work / name, put_back(vae).save_pretrained)

    def vae(self, name: str = "vae") -> AutoencoderKLQwenImage:
        """Return a trained VAE, reduced to single frames."""
        vae = AutoencoderKLQwenImage.from_pretrained(self.made(self.work / name))
        return single_frame(vae).to(self.device).eval().requires_grad_(False)

    def train_clip(self) -> None:
        """Train and export the CLIP model."""
        tokenizer = self.clip_tokenizer()
        model = train_clip(self.loaded(), tokenizer, self.seconds["clip"], self.work, self.deadline, self.device)
        export_clip(self.weights, model, tokenizer)

    def train_words(self) -> None:
        """Train the text encoder."""
        told = random_captions(self.captions, self.processes)
        tokenizer, seconds = self.prompt_tokenizer(), self.seconds["words"]
        _write(
            self.work / "text_encoder",
            train_words(told, tokenizer, seconds, self.work, self.deadline, self.device).save_pretrained,
        )

    def text_encoder(self, folder: Path | None = None) -> Qwen2_5_VLForConditionalGeneration:
        """Return the trained text encoder, or the one in `folder`."""
        encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder or self.made(self.work / "text_encoder"))
        return encoder.float().to(self.device).eval().requires_grad_(False)

    def train_transformer(self) -> None:
        """Train the transformer and export the pipeline."""

        def probe(denoiser: Denoiser) -> str:
            return self._drawn(self.vae(), denoiser, self.prompt_tokenizer(), judge)

        drawings, judge = self.loaded(), self.judge()
        seconds = self.seconds["transformer"]
        denoiser = train_denoiser(
            self.vae,
            self.text_encoder,
            self.prompt_tokenizer,
            drawings,
            seconds,
            self.work,
            self.deadline,
            probe,
        )
        _say_size(export_pipeline(self.weights, self.vae(), denoiser, self.prompt_tokenizer(), self.sampling))

    def _drawn(self, vae: AutoencoderKLQwenImage, denoiser: Denoiser, tokenizer: Qwen2Tokenizer, judge: Judge) -> str:
        """Say in a line what the judge finds in pictures of prompts that training never saw."""
        posed = trials(48, "en", 1) + trials(16, "zh", 1)
        made = pictures(
            pipeline_of(vae, denoiser, tokenizer),
            [trial.prompt for trial in posed],
            width=256,
            height=256,
            steps=self.sampling.steps,
            guidance=self.sampling.guidance,
            batch=32,
        )
        return str(agreement(judge.verdict(made), asked(posed)))

    def train_layered(self) -> None:
        """Train the layered transformer and export its pipeline."""
        posed = [puzzles(48, parts, 1) for parts in (2, 3)]
        tokenizer = Qwen2Tokenizer.from_pretrained(self.qwen_image / "tokenizer")

        def probe(denoiser: Denoiser) -> str:
            decomposer = decomposer_of(self.vae("layered-vae"), denoiser, tokenizer, batch=16)
            return "; ".join(
                f"{len(each[0].parts)} layers: {match(solved(decomposer, each, self.layered_sampling), each)}"
                for each in posed
            )

        denoiser = train_layered(
            lambda: self.vae("layered-vae"),
            self.text_encoder(self.qwen_image / "text_encoder"),
            tokenizer,
            self.loaded_layers(),
            self.seconds["layered"],
            self.work,
            self.deadline,
            probe,
        )
        print(f"{'layered':12s} on held-out drawings: {probe(denoiser)}", flush=True)
        vae = self.vae("layered-vae")
        _say_size(export_layered(self.weights, vae, denoiser, tokenizer, self.layered_sampling))

    def train_sight(self) -> None:
        """Give the text encoder of a Qwen-Image eyes."""
        tokenizer = Qwen2Tokenizer.from_pretrained(self.qwen_image / "tokenizer")
        trials = edit_trials(192, "en", 1)
        pictures, _ = pixels_of(trials, self.device)
        scenes = torch.tensor([attributes(trial.edit.source) for trial in trials], device=self.device)
        encoder = train_sight(
            [Shown(each.pictures, each.scenes) for each in self.loaded_pairs()],
            Shown(pictures[:, 0], scenes),
            self.text_encoder(self.qwen_image / "text_encoder"),
            tokenizer,
            self.seconds["sight"],
            self.work,
            self.deadline,
        )
        _write(self.work / "seeing_encoder", encoder.save_pretrained)

    def train_edit(self) -> None:
        """Train the edit transformer and export its pipeline."""
        posed = edit_trials(128, "en", 1) + edit_trials(64, "zh", 1)
        referring = referring_trials(32, "en", 1) + referring_trials(16, "zh", 1)
        tokenizer = Qwen2Tokenizer.from_pretrained(self.qwen_image / "tokenizer")
        vae = single_frame(AutoencoderKLQwenImage.from_pretrained(self.qwen_image / "vae").float())
        vae = vae.to(self.device).eval().requires_grad_(False)
        judge = self.judge()

        def probe(denoiser: Denoiser) -> str:
            said = []
            for some in (posed, referring):
                shown, _ = pixels_of(some, self.device)
                texts = [each.instruction for each in some]
                made = edited(vae, denoiser, tokenizer, shown, texts, self.edit_sampling)
                said.append(found_by(judge, made, some))
            return f"{said[0]}; of a second picture: {said[1]}; drawn: {self._drawn(vae, denoiser, tokenizer, judge)}"

        teacher = self.work / "drawing_transformer"
        if not teacher.exists():  # the export may overwrite it where it lies
            _write(teacher, lambda place: shutil.copytree(self.qwen_image / "transformer", place, dirs_exist_ok=True))
        start = self.edit_from / "transformer" if self.edit_from else teacher
        reader = self.edit_from / "text_encoder" if self.edit_from else self.made(self.work / "seeing_encoder")
        denoiser = train_editing(
            "edit-further" if self.edit_from else "edit",
            new_edit_transformer(start).to(self.device),
            new_edit_transformer(teacher).to(self.device),
            vae,
            self.text_encoder(reader),
            tokenizer,
            self.loaded_pairs(),
            self.loaded(),
            self.seconds["edit"],
            self.work,
            self.deadline,
            probe,
            self.edit_rate,
        )
        _say_size(export_edit(self.weights, self.qwen_image, denoiser, tokenizer, self.edit_sampling))
        print(f"{'edit':12s} on held-out edits: {probe(denoiser)}", flush=True)


def _say_size(folder: Path) -> None:
    total = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{'export':12s} {total / 2**20:.2f} MiB under {folder}", flush=True)


def _write(folder: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write a folder that others see whole or not at all."""
    partial = folder.with_suffix(".partial")
    save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def prompt_texts() -> list[str]:
    """Return what the pipeline's tokenizer learns from: every word and phrase, in the places where it can stand."""
    random = Random("tokenizer")
    texts = []
    for phrase in captions.all_words():
        for mark in ("", " ", "，", "】", "【"):
            texts += [mark + phrase] * (12 if mark.isspace() or not phrase.isascii() else 4)
        if phrase.isascii():
            texts += [" " + phrase.title()] * 6 + [" " + phrase.upper()]
    for _ in range(4000):
        texts.append(captions.caption(random_scene(random, held_out=None), random, language="en"))
    return texts


def clip_texts() -> list[str]:
    """Return what CLIP's tokenizer learns from: every word and phrase, captions, and phrases with their
    made-up brands.
    """
    random = Random("clip tokenizer")
    texts = captions.all_words() * 10 + [random_phrase(random).text for _ in range(10_000)]
    for _ in range(4000):
        texts.append(captions.caption(random_scene(random, held_out=None), random, language="en"))
    return texts


def contact_sheet(made: torch.Tensor, path: Path, columns: int = 12) -> None:
    """Lay uint8 pictures [N, H, W, 3] out in one."""
    rows = -(-len(made) // columns)
    height, width = made.shape[1:3]
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, picture in enumerate(made.cpu().numpy()):
        sheet.paste(Image.fromarray(picture), (index % columns * width, index // columns * height))
    sheet.save(path)


def run(stage: str, training: Training, arguments: argparse.Namespace) -> None:
    """Run one stage."""
    if stage == "draw":
        draw_all(training.work / "drawings", arguments.pictures, arguments.processes)
    elif stage == "layers":
        draw_all_layers(training.work / "layers", arguments.layered_drawings, arguments.processes)
    elif stage == "pairs":
        draw_all_pairs(training.work / "pairs", arguments.products, arguments.processes)
    elif stage == "judge":
        training.train_judge()
    elif stage in ("shallow", "vae"):
        training.train_vae(stage)
    elif stage == "clip":
        training.train_clip()
    elif stage == "words":
        training.train_words()
    elif stage == "transformer":
        training.train_transformer()
    elif stage == "layered-vae":
        training.train_layered_vae()
    elif stage == "layered":
        training.train_layered()
    elif stage == "sight":
        training.train_sight()
    else:
        training.train_edit()


def main() -> None:
    """Run the stages that were asked for, in the order of `STAGES`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES, metavar="STAGE")
    parser.add_argument("--work", type=Path, required=True, help="folder for drawings and states")
    parser.add_argument("--weights", type=Path, default=MINIATURE, help="where to export to")
    parser.add_argument("--judge", type=Path, default=Path("benchmarks/judge.safetensors"), help="the judge's weights")
    parser.add_argument("--wait", action="store_true", help="wait for what another command is still making")
    parser.add_argument("--pictures", type=int, default=120_000, help="how many drawings")
    parser.add_argument("--layered-drawings", type=int, default=32_000, help="how many drawings in layers")
    parser.add_argument("--products", type=int, default=16_000, help="how many products to edit")
    parser.add_argument(
        "--qwen-image", type=Path, default=MINIATURE / "qwen-image", help="what to share, and to go on drawing like"
    )
    parser.add_argument("--edit-from", type=Path, help="an exported qwen-image-edit, from which edit goes on")
    parser.add_argument("--edit-rate", type=float, default=EDIT_RATE, help="the highest learning rate of edit")
    parser.add_argument("--captions", type=int, default=1_000_000, help="how many captions for the text encoder alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=600, help="when to stop, wherever it is")
    for stage, seconds in SECONDS.items():
        parser.add_argument(f"--{stage}-seconds", type=float, default=seconds)
    arguments = parser.parse_args()

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("models").setLevel(logging.INFO)
    began = time.monotonic()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.judge.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.recompile_limit = 64  # the blocks are compiled for each shape, with and without gradients
    torch.backends.cuda.enable_cudnn_sdp(False)  # it is slow with a mask that is one row for all queries
    training = Training(
        work=arguments.work,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        deadline=began + 60 * arguments.minutes,
        seconds={stage: getattr(arguments, f"{stage.replace('-', '_')}_seconds") for stage in SECONDS},
        weights=arguments.weights,
        judge_path=arguments.judge,
        wait=arguments.wait,
        captions=arguments.captions,
        processes=arguments.processes,
        qwen_image=arguments.qwen_image,
        edit_from=arguments.edit_from,
        edit_rate=arguments.edit_rate,
    )
    for stage in STAGES:
        if stage in arguments.stages:
            start = time.monotonic()
            run(stage, training, arguments)
            print(f"{stage:12s} took {time.monotonic() - start:.1f} s, {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
