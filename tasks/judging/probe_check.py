"""Whether a policy's probe can judge what a checkpoint's text encoder makes of prompts."""

from __future__ import annotations

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.text_encoder import POOLING, text_encoder_digest
from safety.policy.policy import Policy
from tasks.errors import RequestError


def check_probe(policy: Policy, checkpoint: Checkpoint) -> None:
    """Refuse a policy whose probe was trained for another text encoder than a checkpoint's: it would judge at random.

    Raises:
        RequestError: if it was.
        CheckpointError: if the checkpoint's text encoder isn't whole.
    """
    if policy.probe is None:
        return
    about = policy.probe.about
    if about.pooling != POOLING or about.text_encoder != text_encoder_digest(checkpoint):
        raise RequestError(
            f"The probe of the policy {policy.name} was trained for the text encoder of {about.checkpoint}, and "
            f"{checkpoint.name} has another one: train one for it with packshot probe --model {checkpoint.name}, "
            "or take probe out of the policy."
        )
