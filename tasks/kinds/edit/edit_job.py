"""The job that edits pictures, and the sections in which it says more than every job does."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.job import Job
from tasks.job_sections import (
    ModelSection,
    PictureMarketplace,
    PictureOutput,
    PictureSampling,
    SourceSafety,
    SourcesSection,
)

ASPECT = "Pixels; default: the checkpoint's area, in the aspect of the row's last picture."


class EditModel(ModelSection):
    """What edits pictures, and what finds the products on them."""

    condition_cache: int = Field(
        default=1,
        ge=1,
        le=500,
        description="Compute what the model makes of a row's own pictures at every so many steps only, such as 2: "
        "approximate, for Edit-2511.",
    )
    mask_model: str | None = Field(
        default=None,
        description="Qwen-Image-Layered that finds the product where no mask, transparency or plain background tells "
        "it: 'miniature', a folder, s3:// address, or hub id.",
    )
    mask_model_revision: str | None = Field(default=None, description="Commit of a hub mask model, 40 hex digits.")


class EditedSampling(PictureSampling):
    """How edited pictures are sampled, for rows that don't say."""

    width: int | None = Field(default=None, ge=64, le=4096, multiple_of=16, description=ASPECT)
    height: int | None = Field(default=None, ge=64, le=4096, multiple_of=16, description=ASPECT)


class EditSources(SourcesSection):
    """What edits are made from: pictures, and instructions."""

    FIRST_FIELDS: ClassVar[tuple[str, ...]] = (*SourcesSection.FIRST_FIELDS, "instruction_template")

    instruction_template: str | None = Field(
        default=None,
        description="Builds the instruction of rows that have none from other columns: 'put the {title} on marble'.",
    )
    instruction_name: str | None = Field(
        default=None,
        description="Ready-made instruction, with the checks that fit it, of rows that name none: a name in "
        "safety/instructions, such as 'white-background', or a TOML file.",
    )
    instructions: str | None = Field(
        default=None,
        description="Folder of ready-made instructions of your own, a TOML file each: rows name them as the files are "
        "called, and one that is called like a shipped one takes its place.",
    )
    instruction_language: Literal["en", "zh"] = Field(
        default="en", description="The language in which models are told ready-made instructions."
    )


class EditOutput(PictureOutput):
    """How edited pictures are stored and committed, and what they keep of their sources."""

    keep: Literal["none", "product"] = Field(
        default="none",
        description="With 'product', the source's own product is laid over each result, for rows that don't say.",
    )


class EditJob(Job):
    """A job that changes source pictures as instructions ask."""

    model: EditModel = Field(default_factory=EditModel, title="Model")
    sampling: EditedSampling = Field(default_factory=EditedSampling, title="Sampling")
    safety: SourceSafety = Field(default_factory=SourceSafety, title="Safety")
    marketplace: PictureMarketplace = Field(default_factory=PictureMarketplace, title="Marketplace")
    sources: EditSources = Field(default_factory=EditSources, title="Sources")
    output: EditOutput = Field(default_factory=EditOutput, title="Output")

    @model_validator(mode="after")
    def _caches_conditions_where_they_are_apart(self) -> Self:
        if not self.hardware.fused and self.model.condition_cache > 1:
            raise ValueError("condition_cache needs the fused transformer; leave fused on")
        return self
