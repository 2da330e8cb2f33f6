"""An error that a person can mend carries what was seen and what to do, and shows one sentence."""

import pickle
from pathlib import Path

import pytest

from models.files.safetensors_files import CheckpointError, called
from models.finding import Finding
from models.mendable import Mendable
from tasks.errors import RequestError
from tasks.stores.store import StoreAddressError, StoreError, StoreReadOnly

KINDS = [CheckpointError, RequestError, StoreError, StoreReadOnly, StoreAddressError]


@pytest.mark.parametrize("kind", KINDS)
def test_its_sentence_is_what_was_seen_and_what_to_do(kind: type[Mendable]) -> None:
    error = kind("The box is empty", "fill it; or take another: a full one.")
    between = "; " if kind is CheckpointError else ": "
    assert str(error) == f"The box is empty{between}fill it; or take another: a full one."
    assert (error.what, error.remedy) == ("The box is empty", "fill it; or take another: a full one.")
    assert str(kind("The box is empty", "fill it.", joined=", so ")) == "The box is empty, so fill it."


@pytest.mark.parametrize("kind", KINDS)
def test_it_travels_to_other_processes_whole(kind: type[Mendable]) -> None:
    error = kind("The box is empty", "fill it.")
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), there.what, there.remedy) == (kind, str(error), error.what, error.remedy)


def test_a_check_shows_both_apart_whatever_signs_they_hold() -> None:
    found = Finding.refused("box", StoreError("s3://a: b is empty; so", "fill it: now."), "Take another.", "reach")
    assert (found.found, found.do) == ("s3://a: b is empty; so.", "Fill it: now.")
    found = Finding.refused("box", CheckpointError("The box: it is empty; indeed."), "Take another.", "request")
    assert (found.found, found.do, found.fault) == ("The box: it is empty; indeed.", "Take another.", "request")


def test_a_folder_that_only_packshot_knows_is_called_by_the_name_that_a_person_gave() -> None:
    with pytest.raises(CheckpointError) as caught, called(Path("/cache/4f"), "s3://models/shop"):
        raise CheckpointError("/cache/4f/a is cut short", "fetch /cache/4f again.")
    assert str(caught.value) == "s3://models/shop/a is cut short; fetch s3://models/shop again."
    assert caught.value.remedy == "fetch s3://models/shop again."
