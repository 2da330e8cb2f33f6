"""Whether a job's pictures can meet a profile at all, which is known before any is made."""

from __future__ import annotations

from safety.pictures.profile import Profile, ProfileError
from safety.policy.policy import Policy
from tasks.job import Job
from tasks.job_sections import NO_CLIP
from tasks.judging.judges import looked_for


def check_attainable(profile: Profile, job: Job, policy: Policy, *, gives_pictures: bool) -> None:
    """Refuse a profile that demands what the job doesn't give; concepts are looked for where it `gives_pictures`.

    Raises:
        ProfileError: with a sentence that says what it is.
    """
    beyond = profile.concepts_beyond(looked_for(policy)) if gives_pictures else []
    if beyond and job.safety.clip == NO_CLIP:
        raise ProfileError(
            f"The profile {profile.name} wants to know whether a picture shows “{beyond[0]}”, and the job's clip "
            "is none: give a CLIP and a policy that was measured on it, or take a profile that names no concepts."
        )
    if beyond:
        raise ProfileError(
            f"The profile {profile.name} wants to know whether a picture shows “{beyond[0]}”, and the policy "
            f"{job.safety.policy} doesn't look for that in pictures: add the concept there, or take it out of a "
            "profile of your own."
        )
    if profile.aigc and not job.marketplace.aigc_producer:
        raise ProfileError(f"The profile {profile.name} demands AIGC metadata: give the job's aigc_producer.")
    if profile.content_credentials and not job.marketplace.c2pa_certificate:
        raise ProfileError(
            f"The profile {profile.name} demands content credentials: give the job's c2pa_certificate and c2pa_key."
        )
