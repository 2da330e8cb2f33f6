"""C2PA content credentials: a signed statement in the file of how a picture came about, by the shop's certificate.

The library, c2pa-python, is an extra: `packshot[c2pa]`. It is used without a network: no timestamp authority is asked,
no manifest is fetched, no revocation is looked up. So a signature says that the certificate's holder made the
statement, and not when; and whoever looks at it decides whether to trust the certificate.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from safety.marks.provenance import SOFTWARE, DigitalSourceType

if TYPE_CHECKING:
    import c2pa

SETTINGS: dict[str, Any] = {
    "verify": {
        "verify_after_sign": True,
        "verify_trust": False,  # there is no list of trusted certificates here
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "builder": {"thumbnail": {"enabled": False}},  # a picture in the picture says nothing more, and is heavy
    "core": {"allowed_network_hosts": []},
}
PASSING = frozenset({"signingCredential.expired", "signingCredential.untrusted", "claimSignature.outsideValidity"})
"""What time and strangers change: it isn't the picture that was touched (C2PA specification 2.2, section 15.2)."""


class CredentialsError(ValueError):
    """Pictures can't be signed, and a person can mend that. One sentence, made to be shown."""


@dataclass(frozen=True)
class Signer:
    """Signs pictures. Safe to use from many threads."""

    chain: bytes = field(repr=False)  # PEM: the certificate that signs, then those that vouch for it
    key: bytes = field(repr=False)  # PEM, without a password
    algorithm: str  # as C2PA calls it

    @classmethod
    def of(cls, chain: bytes, key: bytes) -> Signer:
        """Return the signer of a certificate, once it is known to work.

        Raises:
            CredentialsError: if the library isn't there, or this certificate and key can't sign.
        """
        _library()
        signer = cls(chain, key, _algorithm(key))
        trial = io.BytesIO()  # which says more than any look at the certificate
        Image.new("RGB", (8, 8)).save(trial, "PNG")
        signer.sign(trial.getvalue(), "png")
        return signer

    def sign(
        self,
        picture: bytes,
        format: str,  # noqa: A002
        *,
        source_type: DigitalSourceType = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
        edits: Sequence[str] = (),
    ) -> bytes:
        """Return a picture with its content credentials; its pixels and its other metadata stay as they are.

        Args:
            format: of its bytes: "png", "jpeg" or "webp".
            source_type: how it was made.
            edits: what was done to it then, in this order.

        Raises:
            CredentialsError: if it can't be signed.
        """
        library = _library()
        created = {
            "action": "c2pa.created",
            "digitalSourceType": str(source_type),
            "softwareAgent": {"name": SOFTWARE},
        }
        actions = [created, *({"action": "c2pa.edited", "description": edit} for edit in edits)]
        manifest = {
            "claim_generator_info": [{"name": SOFTWARE}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
        }
        info = library.C2paSignerInfo(
            alg=self.algorithm.encode(), sign_cert=self.chain, private_key=self.key, ta_url=None
        )
        signed = io.BytesIO()
        try:
            with (
                library.Signer.from_info(info) as signer,
                _context(library) as context,
                library.Builder(manifest, context=context) as builder,
            ):
                builder.sign(signer, f"image/{format}", io.BytesIO(picture), signed)
        except library.C2paError as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise CredentialsError(f"Content credentials can't be written: {said}.") from error
        return signed.getvalue()


def read_credentials(picture: bytes, format: str) -> DigitalSourceType | None:  # noqa: A002
    """Return how a picture came about by its content credentials; None if it has none, or was changed afterwards.

    An expired certificate, and one that nobody here knows, are no change of the picture.

    Raises:
        CredentialsError: if the library isn't there.
    """
    library = _library()
    try:
        with (
            _context(library) as context,
            library.Reader(f"image/{format}", io.BytesIO(picture), context=context) as it,
        ):
            said = json.loads(it.json())
    except (library.C2paError, ValueError):
        return None
    results = said.get("validation_results", {}).get("activeManifest", {})
    if {failure.get("code") for failure in results.get("failure", [])} - PASSING:
        return None
    if not {"assertion.dataHash.match"} & {success.get("code") for success in results.get("success", [])}:
        return None
    for assertion in said.get("manifests", {}).get(said.get("active_manifest"), {}).get("assertions", []):
        for action in assertion.get("data", {}).get("actions", []):
            if action.get("action") == "c2pa.created":
                kind = action.get("digitalSourceType")
                return DigitalSourceType(kind) if kind in list(DigitalSourceType) else None
    return None


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        raise CredentialsError(
            "Content credentials need the library c2pa-python, which isn't installed: install packshot[c2pa]."
        ) from None
    return c2pa


def _context(library: Any) -> c2pa.Context:
    return library.Context(library.Settings.from_dict(SETTINGS))


def _algorithm(key: bytes) -> str:
    """Return the algorithm that C2PA has for a key (C2PA specification 2.2, section 13.2).

    Raises:
        CredentialsError: if it has none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise CredentialsError("The key for content credentials has a password; give it without one.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialsError("The key for content credentials is no private key in PEM.") from None
    match private:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return "es256"
        case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return "es384"
        case ec.EllipticCurvePrivateKey(curve=ec.SECP521R1()):
            return "es512"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case rsa.RSAPrivateKey():
            return "ps256"
    raise CredentialsError(
        "The key for content credentials is of a kind that C2PA doesn't have: use EC, Ed25519 or RSA."
    )
