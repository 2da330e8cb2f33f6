"""The diffusers pipelines whose checkpoints packshot opens: what each takes and gives. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from models.requests import (
    QWEN_IMAGE_DEFAULTS,
    QWEN_IMAGE_EDIT_DEFAULTS,
    QWEN_IMAGE_EDIT_PLUS_DEFAULTS,
    QWEN_IMAGE_LAYERED_DEFAULTS,
    EditDefaults,
    LayersDefaults,
    SamplingDefaults,
)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline, as far as its checkpoints are to be told from others."""

    name: str  # the class that a checkpoint's model_index.json names
    model: str  # what people call the models that are for it
    remedy: str  # what to do where a checkpoint is for another one, as the end of a sentence
    miniature: str  # the folder of the miniature that is for it
    defaults: SamplingDefaults | LayersDefaults | EditDefaults  # its model card's, whose workload is a row's
    most_pictures: int = 0  # that the text encoder sees of a row
    alike: tuple[str, ...] = ()  # the classes of other pipelines, whose checkpoints do the same work


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
EDIT = Pipeline(
    "QwenImageEditPipeline",
    "Qwen-Image-Edit",
    "to edit pictures, give a checkpoint such as Qwen/Qwen-Image-Edit-2511",
    "qwen-image-edit",
    QWEN_IMAGE_EDIT_DEFAULTS,
    most_pictures=1,
)
EDIT_PLUS = Pipeline(
    "QwenImageEditPlusPipeline",
    "Qwen-Image-Edit-2509 and later",
    "to edit pictures, give a checkpoint such as Qwen/Qwen-Image-Edit-2511",
    "qwen-image-edit",
    QWEN_IMAGE_EDIT_PLUS_DEFAULTS,
    most_pictures=3,
    alike=(EDIT.name,),
)
PIPELINES = {pipeline.name: pipeline for pipeline in (TEXT_TO_IMAGE, LAYERED, EDIT, EDIT_PLUS)}
"""All of them, by the name of their class."""


def does_work_of(pipeline: str, declared: str | None) -> bool:
    """Say whether a checkpoint that declares itself for one pipeline can do the work of another, or of the same."""
    alike = PIPELINES[pipeline].alike if pipeline in PIPELINES else ()
    return declared in (pipeline, *alike)


CONTROLNET_CLASS = "QwenImageControlNetModel"
"""The class that a ControlNet's config.json names."""
