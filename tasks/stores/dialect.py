"""How a store that speaks S3's protocol wants to be spoken to: what a probe learns once, and every lane is told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """What stores differ in. Plain values, so that it can be sent to other processes and machines."""

    quoted: bool = True  # `If-Match` holds a version as `ETag` gives it, in quotes (RFC 9110); Ceph 16 wants it without
    checksum: bool = True  # the header x-amz-checksum-sha256 is accepted, be it ignored
    conditional: bool = True  # writes heed their conditions; only a store that is allowed as unsafe may not

    def spoken(self, condition: dict[str, str]) -> dict[str, str]:
        """Give the condition of a write in this store's words."""
        if self.quoted:
            return condition
        return {name: value.strip('"') for name, value in condition.items()}
