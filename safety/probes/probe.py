"""A linear probe: what the picture model's own text encoder makes of a prompt, weighed for each concept.

The hidden states of a text encoder tell what a prompt is about (arXiv 2412.18123 reports above 95 % right), and a bulk
job computes them anyway, for all of a prompt. A probe is learned from labelled prompts: see
`safety.probes.probe_training`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from safety.deciding import deciding
from safety.verdict import Reason, Verdict, allow, ask, fail, refuse

FORMAT = "packshot-probe"  # the one entry of the file's metadata
LARGEST = 64 << 20  # bytes of a file; a concept takes 57 kB for Qwen-Image
PREFIX = "probe."  # before a concept's name in the scores

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")]
Answer = Literal["block", "review"]


class ProbeError(ValueError):
    """A probe that can't be used, or can't be trained; the message is a sentence."""


class Probed(BaseModel):
    """A concept of a probe. A score is the logarithm of the odds that a prompt is about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FIRST_FIELDS: ClassVar = ("answer",)

    name: Name
    threshold: Annotated[float, Field(allow_inf_nan=False)]  # at or above it the answer is given
    answer: Answer = "block"


class About(BaseModel):
    """What a probe says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FIRST_FIELDS: ClassVar = ("version",)

    version: Literal[1] = 1
    text_encoder: str  # whose vectors it weighs: see `models.checkpoints.text_encoder`
    checkpoint: str  # where that came from, for people
    pooling: str  # how a prompt's embeddings become one vector: `models.checkpoints.text_encoder.POOLING`
    concepts: Annotated[tuple[Probed, ...], Field(min_length=1)]


@dataclass(frozen=True, eq=False)
class Probe:
    """Weights for each concept over the vector of a prompt.

    probe = Probe.load(Path("mine.probe.safetensors"))
    verdicts = judge_vectors(vectors, probe)
    """

    about: About
    weights: np.ndarray  # float64 [concepts, D]
    bias: np.ndarray  # float64 [concepts]

    def __post_init__(self) -> None:
        """Refuse what couldn't judge.

        Raises:
            ProbeError: if weights are missing, too many or not finite, or a concept is there twice.
        """
        names = [concept.name for concept in self.about.concepts]
        if self.weights.ndim != 2 or self.weights.shape[0] != len(names) or self.bias.shape != (len(names),):
            raise ProbeError("its weights don't fit its concepts")
        if self.weights.dtype != np.float64 or self.bias.dtype != np.float64:
            raise ProbeError("its weights aren't float64")
        if not self.weights.shape[1] or not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ProbeError("its weights aren't all numbers")
        if len(set(names)) != len(names):
            raise ProbeError("a concept is there twice")

    @classmethod
    def load(cls, path: Path) -> Probe:
        """Read a probe that `write` wrote.

        Raises:
            ProbeError: if it isn't there, or isn't one; the message names it.
        """
        try:
            if path.stat().st_size > LARGEST:
                raise ProbeError(f"it is larger than {LARGEST >> 20} MiB")
            return cls.of(path.read_bytes())
        except FileNotFoundError:
            raise ProbeError(f"There is no probe {path}; packshot probe makes one.") from None
        except OSError as error:
            raise ProbeError(f"The probe {path} can't be read: {error.strerror}.") from None
        except UnicodeError:
            raise ProbeError(f"{str(path)!r} can't be the path of a probe.") from None
        except ProbeError as error:
            raise ProbeError(f"The probe {path} can't be used: {error}; train it again with packshot probe.") from None

    @classmethod
    def of(cls, data: bytes) -> Probe:
        """Return the probe that `data` holds.

        Raises:
            ProbeError: if it holds none.
        """
        try:
            about = _about(data)
            tensors = load(data)
            weights, bias = tensors["weights"], tensors["bias"]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ProbeError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, ProbeError):
                raise
            raise ProbeError("it is no file that packshot probe wrote") from None
        return cls(about, weights, bias)

    def adjusted(self, thresholds: Mapping[str, float], answers: Mapping[str, Answer]) -> Probe:
        """Return the probe with other thresholds and answers, by concept.

        Raises:
            ProbeError: if it has no such concept.
        """
        names = [concept.name for concept in self.about.concepts]
        for name in (*thresholds, *answers):
            if name not in names:
                raise ProbeError(f"The probe has no concept {name}; it has {', '.join(names)}.")
        concepts = tuple(
            Probed(
                name=concept.name,
                threshold=thresholds.get(concept.name, concept.threshold),
                answer=answers.get(concept.name, concept.answer),
            )
            for concept in self.about.concepts
        )
        return replace(self, about=self.about.model_copy(update={"concepts": concepts}))

    @property
    def data(self) -> bytes:
        """The bytes of its file; the same probe gives the same ones."""
        return self._saved(self.about.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides its verdicts; see `safety.deciding`."""
        return hashlib.sha256(self._saved(deciding(self.about))).hexdigest()

    def _saved(self, about: dict[str, Any]) -> bytes:
        """Return a safetensors file that says this of itself."""
        metadata = json.dumps(about, sort_keys=True, ensure_ascii=False)
        return save({"weights": self.weights, "bias": self.bias}, {FORMAT: metadata})

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return the scores [N, concepts] of vectors [N, D]; not finite where a vector isn't."""
        scores: np.ndarray = np.asarray(vectors, dtype=np.float64) @ self.weights.T + self.bias
        return scores


def _about(data: bytes) -> About:
    """Return the metadata of a safetensors file: its header is JSON behind eight bytes that say how long it is."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError
    return About.model_validate_json(json.loads(data[8 : 8 + size])["__metadata__"][FORMAT])


def judge_vectors(vectors: np.ndarray, probe: Probe, *, what: str = "prompt") -> list[Verdict]:
    """Judge prompts by their vectors [N, D]: `models.sampling.pooled` makes them.

    A vector that isn't finite, or is of another size than the probe's, is refused.
    """
    failed = fail(Reason.SCREEN_FAILED, f"The {what} couldn't be screened, and what can't be screened is refused.")
    count = len(vectors)
    try:
        rows = np.asarray(vectors, dtype=np.float64)
    except (TypeError, ValueError):
        return [failed] * count
    if not count or rows.shape != (count, probe.weights.shape[1]):
        return [failed] * count
    with np.errstate(all="ignore"):  # what isn't finite is refused below
        scores = probe.scores(rows)
    names = [concept.name for concept in probe.about.concepts]
    return [
        _verdict(dict(zip(names, map(float, row), strict=True)), probe.about.concepts, what)
        if np.isfinite(row).all()
        else failed
        for row in scores
    ]


def _verdict(found: dict[str, float], concepts: Sequence[Probed], what: str) -> Verdict:
    scores = {f"{PREFIX}{name}": score for name, score in found.items()}
    over = [concept for concept in concepts if found[concept.name] >= concept.threshold]
    furthest = sorted(over, key=lambda concept: concept.threshold - found[concept.name])

    def like(concept: Probed) -> str:
        label = concept.name.replace("_", " ")
        return f"reads like “{label}” ({found[concept.name]:.3f}, limit {concept.threshold:.3f})"

    for concept in furthest:
        if concept.answer == "block":
            return refuse(Reason.CONCEPT, f"To the model's own text encoder the {what} {like(concept)}.", scores)
    if furthest:
        near = ", and ".join(map(like, furthest))
        over_by = {f"{PREFIX}{concept.name}": found[concept.name] - concept.threshold for concept in furthest}
        return ask(over_by, f"A person must look: to the model's own text encoder the {what} {near}.", scores)
    return allow(scores)
