"""The diffusers pipelines whose checkpoints packshot opens: what each takes and gives. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from models.requests import QWEN_IMAGE_DEFAULTS, QWEN_IMAGE_LAYERED_DEFAULTS, LayersDefaults, SamplingDefaults


@dataclass(frozen=True)
class Pipeline:
    """A pipeline, as far as its checkpoints are to be told from others."""

    name: str  # the class that a checkpoint's model_index.json names
    model: str  # what people call the models that are for it
    remedy: str  # what to do where a checkpoint is for another one, as the end of a sentence
    miniature: str  # the folder of the miniature that is for it
    defaults: SamplingDefaults | LayersDefaults  # its model card's; their workload is what a row takes and gives


TEXT_TO_IMAGE = Pipeline(
    "QwenImagePipeline",
    "text-to-image Qwen-Image",
    "to make pictures from prompts, give a checkpoint such as Qwen/Qwen-Image",
    "qwen-image",
    QWEN_IMAGE_DEFAULTS,
)
LAYERED = Pipeline(
    "QwenImageLayeredPipeline",
    "Qwen-Image-Layered",
    "to take pictures apart, give a checkpoint such as Qwen/Qwen-Image-Layered",
    "qwen-image-layered",
    QWEN_IMAGE_LAYERED_DEFAULTS,
)
PIPELINES = {pipeline.name: pipeline for pipeline in (TEXT_TO_IMAGE, LAYERED)}
"""All of them, by the name of their class."""

CONTROLNET_CLASS = "QwenImageControlNetModel"
"""The class that a ControlNet's config.json names."""
