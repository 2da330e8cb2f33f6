"""The job: everything but the manifest's rows that decides the outcome."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from safety.deciding import deciding
from tasks.job_sections import (
    HardwareSection,
    LayerMarketplace,
    LayerOutput,
    LayerSampling,
    LayerSources,
    MarketplaceSection,
    ModelSection,
    OutputSection,
    PictureMarketplace,
    PictureModel,
    PictureOutput,
    PictureSampling,
    PromptSources,
    SafetySection,
    SamplingSection,
    Section,
    SourceSafety,
    SourcesSection,
)

ELSEWHERE = ("manifest", "store", "fail_beyond", *HardwareSection.model_fields)
"""Fields that say where and how a run reads, writes, computes and tells, and change pictures by rounding at most."""
SAID_BY_THE_KEY = (
    "loras",
    "scheduler",
    "step_cache",
    "condition_cache",
    "snap_white",
    "pad_square",
    "flatten",
    "aigc_producer",
    "c2pa_certificate",
    "c2pa_key",
)
"""Fields that decide by what the key says of them, where they are used: see `tasks.manifests.key.Maker.additions`."""


class Job(BaseModel):
    """What every job says. One TOML file, and every field also a flag: `--negative-prompt`, `--shard-rows`, …"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: str = Field(description="Parquet file, folder of Parquet files, or s3:// address: one row a picture.")
    store: str = Field(description="Where pictures and the catalogue go: s3://bucket/prefix, or a folder.")
    model: ModelSection = Field(default_factory=ModelSection, title="Model")
    sampling: SamplingSection = Field(default_factory=SamplingSection, title="Sampling")
    safety: SafetySection = Field(default_factory=SafetySection, title="Safety")
    marketplace: MarketplaceSection = Field(default_factory=MarketplaceSection, title="Marketplace")
    sources: SourcesSection = Field(default_factory=SourcesSection, title="Sources")
    output: OutputSection = Field(default_factory=OutputSection, title="Output")
    hardware: HardwareSection = Field(default_factory=HardwareSection, title="Hardware")

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the job of fields by their names alone, as flags give them."""
        return cls(**in_sections(cls, {}, values))

    def with_values(self, **values: Any) -> Self:
        """Return the same job with other values of some fields."""
        return type(self).of(**{**self.values(), **values})

    def values(self) -> dict[str, Any]:
        """Return the values of all fields by their names alone."""
        return {
            name: getattr(getattr(self, field.section) if field.section else self, name)
            for name, field in job_fields(type(self)).items()
        }

    @model_validator(mode="before")
    @classmethod
    def _every_field_is_in_its_section(cls, values: Any) -> Any:
        astray = list(_astray(cls, values)) if isinstance(values, dict) else []
        if astray:
            raise ValueError(f"fields stand in sections: {', '.join(f'{name} in [{place}]' for name, place in astray)}")
        return values

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if not self.hardware.fused and (self.model.precision == "float8" or self.model.step_cache is not None):
            raise ValueError("precision float8 and step_cache need the fused transformer; leave fused on")
        return self

    def deciding(self) -> dict[str, Any]:
        """Return what decides what a run does: all but where it reads, writes and computes, and what keys say.

        A field that came later is left out where it is its default: see `safety.deciding`.
        """
        sections, said_elsewhere = sections_of(type(self)), (*ELSEWHERE, *SAID_BY_THE_KEY)
        decides = {"job": type(self).__name__, **deciding(self, exclude=(*sections, *said_elsewhere))}
        for name in sections:
            decides |= deciding(getattr(self, name), exclude=said_elsewhere)
        return decides


class GenerateJob(Job):
    """A job that makes pictures from prompts."""

    model: PictureModel = Field(default_factory=PictureModel, title="Model")
    sampling: PictureSampling = Field(default_factory=PictureSampling, title="Sampling")
    marketplace: PictureMarketplace = Field(default_factory=PictureMarketplace, title="Marketplace")
    sources: PromptSources = Field(default_factory=PromptSources, title="Sources")
    output: PictureOutput = Field(default_factory=PictureOutput, title="Output")


class DecomposeJob(Job):
    """A job that takes source pictures apart into RGBA layers."""

    sampling: LayerSampling = Field(default_factory=LayerSampling, title="Sampling")
    safety: SourceSafety = Field(default_factory=SourceSafety, title="Safety")
    marketplace: LayerMarketplace = Field(default_factory=LayerMarketplace, title="Marketplace")
    sources: LayerSources = Field(default_factory=LayerSources, title="Sources")
    output: LayerOutput = Field(default_factory=LayerOutput, title="Output")


@dataclass(frozen=True)
class JobField:
    """One field of a job, and the section that it stands in: None for those outside of all."""

    section: str | None
    title: str | None  # of the section
    info: FieldInfo


def sections_of(kind: type[Job]) -> dict[str, type[Section]]:
    """Return the sections of a kind of job by their names."""
    return {
        name: field.annotation
        for name, field in kind.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def job_fields(kind: type[Job]) -> Mapping[str, JobField]:
    """Return every field of a kind of job by its name alone: no two sections have one of the same name."""
    sections = sections_of(kind)
    fields = {name: JobField(None, None, info) for name, info in kind.model_fields.items() if name not in sections}
    for section, model in sections.items():
        title = kind.model_fields[section].title
        fields |= {name: JobField(section, title, info) for name, info in model.model_fields.items()}
    return fields


def in_sections(kind: type[Job], values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's values by section, with others over them that are given by their names alone."""
    placed = {name: {**value} if isinstance(value, dict) else value for name, value in values.items()}
    fields = job_fields(kind)
    for name, value in over.items():
        field = fields.get(name)
        if field is None or field.section is None:
            placed[name] = value
        elif isinstance(section := placed.setdefault(field.section, {}), dict):
            section[name] = value
    return placed


def names_in(kinds: Collection[type[Job]], values: Mapping[str, Any]) -> set[str]:
    """Return the names of the fields in values by section, those that stand outside of their section included."""
    sections = {name for kind in kinds for name in sections_of(kind)}
    inside = {name for section in sections if isinstance(some := values.get(section), dict) for name in some}
    return inside | {name for name, value in values.items() if name not in sections or not isinstance(value, dict)}


def _astray(kind: type[Job], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the fields that aren't where they belong, with the section that they belong in."""
    sections, fields = sections_of(kind), job_fields(kind)
    for place, value in values.items():
        if place in sections and isinstance(value, dict):
            for name in value:
                if name in fields and fields[name].section not in (place, None):
                    yield name, str(fields[name].section)
        elif place in fields and fields[place].section is not None and not isinstance(value, Section):
            yield place, str(fields[place].section)
