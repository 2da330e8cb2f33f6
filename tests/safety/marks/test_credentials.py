import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from PIL import Image

from safety.marks.credentials import CredentialsError, Signer, read_credentials
from safety.marks.provenance import DigitalSourceType, digital_source_type, save_arguments, xmp_packet
from tests.certificates import DAY, certificate

c2pa = pytest.importorskip("c2pa", reason="the extra packshot[c2pa] isn't installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
TRAINED = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
COMPOSITE = DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA


def picture(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **save_arguments(xmp_packet(), kind))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.of(*certificate())


@pytest.mark.parametrize(("kind", "mode"), [("png", "RGB"), ("png", "RGBA"), ("jpeg", "RGB"), ("webp", "RGB")])
def test_credentials_are_read_back_and_pixels_and_xmp_stay(signer: Signer, kind: str, mode: str) -> None:
    before = picture(kind, mode)
    after = signer.sign(before, kind)
    assert read_credentials(before, kind) is None
    assert read_credentials(after, kind) == TRAINED
    assert digital_source_type(after) == TRAINED
    with Image.open(io.BytesIO(before)) as one, Image.open(io.BytesIO(after)) as other:
        assert one.mode == other.mode
        assert (np.asarray(one) == np.asarray(other)).all()


def test_they_say_how_the_picture_was_made_and_what_was_done_to_it(signer: Signer) -> None:
    signed = signer.sign(picture("jpeg"), "jpeg", source_type=COMPOSITE, edits=["flatten"])
    assert read_credentials(signed, "jpeg") == COMPOSITE
    with c2pa.Reader("image/jpeg", io.BytesIO(signed)) as reader:
        said = json.loads(reader.json())
    manifest = said["manifests"][said["active_manifest"]]
    (assertion,) = (one for one in manifest["assertions"] if one["label"].startswith("c2pa.actions"))
    actions = [(action["action"], action.get("description")) for action in assertion["data"]["actions"]]
    assert actions == [("c2pa.created", None), ("c2pa.edited", "flatten")]
    assert manifest["signature_info"]["common_name"] == "Shop of a test"
    assert "thumbnail" not in manifest
    assert "time" not in manifest["signature_info"]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_that_was_changed_after_it_was_signed_has_none(signer: Signer, kind: str) -> None:
    signed = bytearray(signer.sign(picture(kind), kind))
    signed[-40] ^= 1
    assert read_credentials(bytes(signed), kind) is None
    assert read_credentials(bytes(signed[:300]), kind) is None
    assert read_credentials(b"", kind) is None


def test_an_expired_certificate_takes_nothing_from_what_it_signed() -> None:
    expired = (Path(__file__).parent / "signed_by_expired.png").read_bytes()
    assert read_credentials(expired, "png") == TRAINED
    changed = bytearray(expired)
    changed[-40] ^= 1
    assert read_credentials(bytes(changed), "png") is None


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "P-521", "Ed25519", "RSA"],
)
def test_every_kind_of_key_that_c2pa_has_signs(key: Any) -> None:
    assert read_credentials(Signer.of(*certificate(key)).sign(picture("png"), "png"), "png") == TRAINED


def test_many_threads_sign_at_once(signer: Signer) -> None:
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda _: signer.sign(picture("webp"), "webp"), range(32)))
    assert all(read_credentials(one, "webp") == TRAINED for one in signed)


@pytest.mark.parametrize(
    ("chain", "key", "sentence"),
    [
        (certificate()[0], certificate()[1], "the signature does not match"),
        (*certificate(start=-9 * DAY, end=-DAY), "the certificate was not valid at time of signing"),
        (*certificate(start=DAY, end=9 * DAY), "the certificate was not valid at time of signing"),
        (certificate()[0], b"nonsense", "no private key in PEM"),
        (b"nonsense", certificate()[1], "can't be written"),
        (*certificate(password=b"secret"), "has a password"),
        (*certificate(ec.generate_private_key(ec.SECP256K1())), "of a kind that C2PA doesn't have"),
    ],
    ids=["another key", "expired", "not yet valid", "no key", "no certificate", "password", "another curve"],
)
def test_what_cannot_sign_is_refused_in_a_sentence_that_shows_no_key(chain: bytes, key: bytes, sentence: str) -> None:
    with pytest.raises(CredentialsError, match=sentence) as refused:
        Signer.of(chain, key)
    assert "PRIVATE" not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_signer_does_not_show_its_key(signer: Signer) -> None:
    assert "PRIVATE" not in repr(signer)


def test_without_the_library_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(CredentialsError, match=r"install packshot\[c2pa\]"):
        Signer.of(*certificate(end=timedelta(hours=1)))
