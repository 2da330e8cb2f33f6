"""Jobs, policies and profiles as people write them, and what is said of one that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.pictures.profile import Profile, ProfileError
from safety.policy.policy import Policy, PolicyError
from tasks.errors import RequestError
from tasks.job import DecomposeJob, GenerateJob, Job
from tasks.job_file import load_job
from tasks.kinds.job_to_check import load_job_to_check
from tests.job_files import SECTIONS, job_file

NOT_OURS = re.compile(r"pydantic|Input should|Extra inputs|Field required|https://errors|valid (string|integer|number)")


def job_of(file: Path, kind: type[Job] = GenerateJob) -> Job:
    return load_job(kind, file, manifest="m.parquet", store="out")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes) -> Path:
        file = tmp_path / "mine.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (job_of, "[sampling]\nsteps = 4"),
        (lambda file: Policy.load(str(file)), 'blocklists = ["en"]'),
        (lambda file: Profile.load(str(file)), "min_width = 4"),
    ],
)
def test_a_byte_order_mark_and_windows_lines_are_read(
    written: Callable[..., Path], load: Callable[[Path], Any], text: str
) -> None:
    load(written(b"\xef\xbb\xbf# mine\r\n" + text.encode() + b"\r\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step = 4", "there is no field step. Did you mean steps?"),
        ('profil = "plain"', "there is no field profil. Did you mean profile?"),
        ('Clip-Revision = "x"', "there is no field Clip-Revision. Did you mean clip_revision?"),
        ("zzz = 1", "there is no field zzz."),
        (
            "[job]\nsteps = 4",
            "there is no section [job]: there are [model], [sampling], [safety], [marketplace], [sources], [output]",
        ),
        ("[[sampling.steps]]\nn = 4", "steps is [{'n': 4}], and must be a whole number"),
        ("steps = true", "steps is true, and isn't a question of true or false"),
        ('steps = "many"', 'steps is "many", and must be a whole number'),
        ("steps = 4.5", "steps is 4.5, and must be a whole number"),
        ('guidance = "high"', 'guidance is "high", and must be a number'),
        ("guidance = nan", "guidance is nan, and must be"),
        ('snap_white = "perhaps"', 'snap_white is "perhaps", and must be true or false'),
        ('loras = "a.safetensors"', 'loras is "a.safetensors", and must be a list, in brackets'),
        ("policy = 3", "policy is 3, and must be a text, in quotes"),
        ('format = "gif"', "format is \"gif\", and must be one of 'png', 'jpeg' or 'webp'"),
        ('gpu_memory = "much"', 'gpu_memory is "much", and must be a number of bytes, or a size such as "24GiB"'),
        ('model = "~nobody-here/x"', "model is ~nobody-here/x, and there is no such user's home folder"),
        ("steps = ", "isn't TOML"),
        (b"\xff\xfes\x00", "isn't UTF-8 text: save it as UTF-8"),
        ("steps = " + "9" * 5000, "isn't TOML"),
        ("steps = " + "[" * 5000, "nests too deeply"),
    ],
)
def test_a_job_that_is_wrong_says_which_field_what_it_holds_and_what_is_wanted(
    written: Callable[..., Path], text: str | bytes, said: str
) -> None:
    with pytest.raises(RequestError) as refused:
        job_of(written(text if isinstance(text, bytes) else job_file(*text.splitlines())))
    assert said in str(refused.value)
    assert "mine.toml" in str(refused.value)
    assert not NOT_OURS.search(str(refused.value))


GUN = '[[concepts]]\nname = "gun"\nsentence = "No."\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('blocklist_ = ["en"]', "there is no field blocklist_. Did you mean blocklists?"),
        (GUN + 'phrases = ["a gun"]\nprompt_treshold = 0.1', "Did you mean prompt_threshold?"),
        (
            GUN + 'phrases = ["a gun"]\nprompt_threshold = "low"',
            'concepts.0.prompt_threshold is "low", and must be a number',
        ),
        (GUN + 'phrases = "a gun"\nprompt_threshold = 0.1', "must be a list, in brackets"),
        ("[concept]\nname = 3", "there is no section [concept]. Did you mean concepts?"),
        ('extends = "default"\nconcepts = 3', "concepts is 3, and must be a list"),
    ],
)
def test_a_policy_that_is_wrong_says_so_in_the_same_words(written: Callable[..., Path], text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        Policy.load(str(written(text)))
    assert said in str(refused.value)


def test_a_profile_that_is_wrong_says_so_in_the_same_words(written: Callable[..., Path]) -> None:
    with pytest.raises(ProfileError, match=r"there is no field min_widht\. Did you mean min_width\?"):
        Profile.load(str(written("min_widht = 4")))
    with pytest.raises(ProfileError, match=r'min_width is "wide", and must be a whole number'):
        Profile.load(str(written('min_width = "wide"')))


PLAIN = st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="'")
LITERALS = st.recursive(
    st.one_of(
        st.booleans().map(lambda value: str(value).lower()),
        st.integers().map(str),
        st.floats().map(lambda value: repr(value) if "e" not in repr(value) else "1e9"),
        st.text(PLAIN, max_size=300).map("'{}'".format),
        st.sampled_from(['"\\u0000"', '"~"', '"../x"', "1979-05-27T07:32:00Z", "07:32:00", '"s3://b/x"', "[]", "{}"]),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]"),
    max_leaves=4,
)
NAMES = sorted({*GenerateJob.model_fields, *SECTIONS, "job", "clp", "'a b'"})
LINES = st.lists(
    st.tuples(st.sampled_from(NAMES), LITERALS).map(" = ".join), max_size=5, unique_by=lambda it: it.split()[0]
)
TEXTS = st.one_of(
    st.text(max_size=60),
    LINES.map("\n".join),
    st.tuples(
        LINES,
        st.sampled_from(["[job]", "[[loras]]", "[a.b]", "[model]", "[sampling]", "[output]", "[hardware]"]),
        LINES,
    ).map(lambda parts: "\n".join([*parts[0], parts[1], *parts[2]])),
)


@settings(max_examples=150)
@given(text=TEXTS, kind=st.sampled_from([GenerateJob, DecomposeJob, None]))
def test_any_text_is_a_job_or_a_sentence(
    text: str, kind: type[Job] | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = _refusal(file, kind)
    assert said is None or (said.endswith(".") and not NOT_OURS.search(said)), said


def _refusal(file: Path, kind: type[Job] | None) -> str | None:
    try:
        load_job_to_check(file) if kind is None else load_job(kind, file)
    except RequestError as error:
        return str(error)
    return None
