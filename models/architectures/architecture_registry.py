"""The families of picture models that packshot opens, and which one a pipeline is of."""

from __future__ import annotations

from models.architectures.model_family import Architecture, PipelineRules
from models.architectures.qwen_image.family import QWEN_IMAGE

ARCHITECTURES = (QWEN_IMAGE,)


def architecture_of(pipeline: str) -> Architecture:
    """Return the family of a pipeline, by the name of its class."""
    return next(each for each in ARCHITECTURES if pipeline in each.rules)


def rules_of(pipeline: str) -> PipelineRules:
    """Return what is particular to a pipeline, by the name of its class."""
    return architecture_of(pipeline).rules[pipeline]
