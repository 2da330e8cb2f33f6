"""The policy: what is refused, in one readable TOML file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from safety.deciding import deciding
from safety.probes.probe import Answer, Name, Probe, ProbeError
from safety.text.blocklist import Blocklist
from safety.text.blocklist_file import BlocklistError
from safety.text.normalise import METHOD
from safety.toml_file import TomlError, problems_of, read_toml

SHIPPED = Path(__file__).parents[1] / "policies"
SHIPPED_BLOCKLISTS = Path(__file__).parents[1] / "blocklists"
PROMPT_MATCH = "prompt_match"  # the score's name beside the concepts', so no concept may have it

FILE_FIELDS = ("extends", "without", "blocklists", "refuse", "allow", "probe")
"""Fields of a policy's file that are read before the policy is made of the others."""

Phrase = Annotated[str, Field(min_length=1, max_length=300)]
Margin = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class PolicyError(ValueError):
    """A policy that can't be used; the message names the file and the field."""


class Concept(BaseModel):
    """Something to recognise by meaning. Without a threshold it isn't looked for there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FIRST_FIELDS: ClassVar = ("answer", "exempt", "prompt_threshold", "picture_threshold")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    sentence: Phrase  # what a person reads when it is found
    phrases: Annotated[tuple[Phrase, ...], Field(min_length=1)]
    exempt: tuple[Phrase, ...] = ()
    answer: Answer = "block"  # what happens at or above a threshold: review has a person look
    prompt_threshold: Margin | None = None
    picture_threshold: Margin | None = None

    @model_validator(mode="after")
    def _looked_for_somewhere(self) -> Self:
        if self.prompt_threshold is None and self.picture_threshold is None:
            raise ValueError(f"concept {self.name} has neither a prompt_threshold nor a picture_threshold")
        return self


class ProbeFile(BaseModel):
    """Where a policy's probe is, and what of it the policy has otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    thresholds: dict[Name, Annotated[float, Field(allow_inf_nan=False)]] = {}
    answers: dict[Name, Answer] = {}

    def open(self, folder: Path) -> Probe:
        """Return the probe, whose file is named relative to `folder`.

        Raises:
            ProbeError: if it can't be used, or has no concept of a name.
        """
        return Probe.load(folder / self.file).adjusted(self.thresholds, self.answers)


class Policy(BaseModel):
    """Blocklists and concepts with their thresholds.

    policy = Policy.load("default")
    policy.blocklist.search("a h.a.n.d.g.u.n on white")
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    FIRST_FIELDS: ClassVar = ("concepts", "neutral", "min_prompt_match")

    name: str
    calibrated_for: str | None = None  # the CLIP that the thresholds were measured on, as a job names it
    concepts: tuple[Concept, ...] = ()
    neutral: tuple[Phrase, ...] = ()  # exempt for every concept
    min_prompt_match: Cosine | None = None
    blocklist: Annotated[Blocklist, Field(exclude=True, repr=False)]
    probe: Annotated[Probe | None, Field(exclude=True, repr=False)] = None

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        repeated = [name for name, count in Counter(c.name for c in self.concepts).items() if count > 1]
        if repeated:
            raise ValueError(f"concept {repeated[0]} is there twice")
        if PROMPT_MATCH in {concept.name for concept in self.concepts}:
            raise ValueError(f"no concept may be named {PROMPT_MATCH}: that is a score of its own")
        return self

    @classmethod
    def load(cls, name_or_path: str) -> Policy:
        """Read a shipped policy by its name ("default"), or any other by its path.

        In the file, `blocklists` names shipped lists ("en") or text files beside the policy ("mine.txt"); `refuse`
        and `allow` add single terms and exceptions. `extends` names a shipped policy whose fields stand where the file
        gives none, and `without` those of its concepts that aren't looked for. `probe` names a file beside the policy
        ("mine.probe.safetensors"), or is a table: `file`, and `thresholds` and `answers` by concept.

        Raises:
            PolicyError: if the file, or a list or probe it names, is missing or malformed.
        """
        path = file_of(name_or_path)
        fields = _extended(path, _read(path, name_or_path))
        if "blocklist" in fields:
            raise PolicyError(f"The policy {path}, field blocklist: it is called blocklists, a list of names.")
        probe = _probe(path, fields.pop("probe", None))
        texts = {field: _texts(path, field, fields.pop(field, [])) for field in ("blocklists", "refuse", "allow")}
        try:
            blocklist = Blocklist.read([_list_path(path, name) for name in texts["blocklists"]])
            blocklist = blocklist.extended(refuse=texts["refuse"], allow=texts["allow"])
        except BlocklistError as error:
            raise PolicyError(f"The policy {path}, field blocklists: {error}") from None
        try:
            return cls(**{"name": path.stem} | fields, blocklist=blocklist, probe=probe)
        except ValidationError as error:
            raise _wrong(path, error, cls) from None

    @property
    def of_conditions(self) -> Self:
        """What counts for a picture that another one is drawn after: the concepts that prompts mayn't name, either.

        The others are faults of a finished picture, such as a border, and a CLIP sees one of them in nearly every map
        of edges or depths.
        """
        return self.model_copy(
            update={"concepts": tuple(concept for concept in self.concepts if concept.prompt_threshold is not None)}
        )

    @property
    def without_clip(self) -> Self:
        """What is left of it where no CLIP is asked: its lists and its probe. No concept is looked for anywhere."""
        nowhere = {"prompt_threshold": None, "picture_threshold": None}
        concepts = tuple(concept.model_copy(update=nowhere) for concept in self.concepts)
        return self.model_copy(update={"concepts": concepts, "min_prompt_match": None})

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides a verdict: the method, the contents of lists and probe, the fields.

        A field that came later is left out where it is its default: see `safety.deciding`.
        Computed anew each time (1 ms), because a cached one would survive `model_copy(update=...)`.
        """
        decides = {
            "method": METHOD,
            "blocklist": self.blocklist.contents,
            **({"probe": self.probe.digest} if self.probe else {}),
            **deciding(self, exclude=("name", "calibrated_for")),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise PolicyError(f"There is no policy {name}; shipped are {_shipped()}.") from None
    except TomlError as error:
        raise PolicyError(f"The policy {path} {error}.") from None


def _extended(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a policy over those of the shipped one that it extends; concepts are added to that one's.

    A shipped one may itself extend another.
    """
    base, without = fields.pop("extends", None), _texts(path, "without", fields.pop("without", []))
    if base is None:
        if without:
            raise PolicyError(
                f"The policy {path}, field without: it extends no policy whose concepts it could leave out."
            )
        return fields
    if not isinstance(base, str) or not (SHIPPED / f"{base}.toml").is_file():
        raise PolicyError(f"The policy {path}, field extends: it must be a shipped policy: {_shipped()}.")
    shipped = SHIPPED / f"{base}.toml"
    under = _extended(shipped, _read(shipped, base))
    concepts = {concept["name"]: concept for concept in under.pop("concepts", [])}
    if unknown := sorted(set(without) - set(concepts)):
        raise PolicyError(f"The policy {path}, field without: {base} has no concept {unknown[0]}.")
    kept = [concept for name, concept in concepts.items() if name not in without]
    own = fields.get("concepts", [])
    return {**under, **fields, "concepts": [*kept, *own] if isinstance(own, list) else own}


def _probe(path: Path, value: object) -> Probe | None:
    if value is None:
        return None
    try:
        return ProbeFile.model_validate({"file": value} if isinstance(value, str) else value).open(path.parent)
    except ProbeError as error:
        raise PolicyError(f"The policy {path}, field probe: {error}") from None
    except ValidationError as error:
        raise _wrong(path, error, ProbeFile, "probe") from None


def _wrong(path: Path, error: ValidationError, model: type[BaseModel], under: str = "") -> PolicyError:
    """Return the first thing that is wrong with a policy's fields."""
    first = next(problems_of(error, model, () if under else FILE_FIELDS))
    return PolicyError(f"The policy {path}{f', field {under}' if under else ''}: {first}.")


def file_of(name_or_path: str) -> Path:
    if name_or_path.endswith(".toml") or "/" in name_or_path or "\\" in name_or_path:
        return Path(name_or_path)
    return SHIPPED / f"{name_or_path}.toml"


def _list_path(policy: Path, name: str) -> Path:
    return policy.parent / name if name.endswith(".txt") else SHIPPED_BLOCKLISTS / f"{name}.txt"


def _shipped() -> str:
    return ", ".join(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def _texts(path: Path, field: str, value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise PolicyError(f"The policy {path}, field {field}: it must be a list of texts.")
