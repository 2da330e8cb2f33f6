"""Dialects of S3: what stores were seen to do otherwise than Amazon's, each as a quirk of the proxy before moto.

with FaultProxy(s3_server, unquoted_versions, lost_races_are_500) as proxy: ...
"""

import base64
import hashlib
import re
import threading
import time
from dataclasses import replace

from tests.faults.fault_proxy import (
    Answer,
    Ask,
    Fault,
    Question,
    Quirk,
    answer,
    error,
    half_request,
    hang,
    lost_reply,
    lost_request,
    torn_reply,
)

CONDITIONS = ("if-match", "if-none-match")
KNOWN = (
    *("host", "authorization", "date", "user-agent", "accept-encoding", "connection", "range"),
    *("content-type", "content-length", "content-md5", "cache-control", *CONDITIONS),
    *("x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-copy-source", "x-amz-user-agent"),
    *("amz-sdk-invocation-id", "amz-sdk-request"),
)
"""The headers of an early S3, and what boto3 adds to every request for its own statistics."""


def is_conditional_put(question: Question) -> bool:
    return question.method == "PUT" and any(name in question.headers for name in CONDITIONS)


def is_copy(question: Question) -> bool:
    return "x-amz-copy-source" in question.headers


def without(question: Question, *names: str) -> Question:
    kept = {name: value for name, value in question.headers.items() if name not in names}
    return replace(question, headers=kept)


def aside(question: Question, method: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Question:
    """Give a question of the proxy's own about the same object. Moto asks for a signature and doesn't check it."""
    return Question(
        method, question.path, {"authorization": question.headers["authorization"], **(headers or {})}, body
    )


# What is to be survived.


def unquoted_versions(ask: Ask, question: Question) -> Answer:
    """Ceph 16: If-Match of a write wants the ETag without its quotes, and no other form ever matches."""
    if question.method == "PUT" and (version := question.headers.get("if-match")):
        if '"' in version:
            return error(412, "PreconditionFailed")
        question = replace(question, headers={**question.headers, "if-match": f'"{version}"'})
    return ask(question)


def lost_races_are_500(ask: Ask, question: Question) -> Answer:
    """Ceph 16, at times: who came second is told of an internal error. Here, always."""
    answered = ask(question)
    return error(500, "InternalError") if answered.status == 412 else answered


def knows_few_headers(status: int, code: str) -> Quirk:
    """Older stores: a header that they don't know is a wrong request, or one that isn't implemented."""

    def quirk(ask: Ask, question: Question) -> Answer:
        unknown = [name for name in question.headers if name not in KNOWN and not name.startswith("x-amz-meta-")]
        return error(status, code) if unknown else ask(question)

    return quirk


def wants_lengths(ask: Ask, question: Question) -> Answer:
    """Ceph over https: no checksums after the content."""
    streaming = question.headers.get("x-amz-content-sha256", "").startswith("STREAMING")
    if streaming or "x-amz-trailer" in question.headers or "content-length" not in question.headers:
        return error(411, "MissingContentLength") if question.method == "PUT" else ask(question)
    return ask(question)


def no_conditions_but_of_puts(ask: Ask, question: Question) -> Answer:
    """Ceph 16: conditions of copies and deletes are ignored."""
    if question.method == "DELETE" or is_copy(question):
        copies = [name for name in question.headers if name.startswith("x-amz-copy-source-if")]
        return ask(without(question, *CONDITIONS, *copies))
    return ask(question)


def other_etags(ask: Ask, question: Question) -> Answer:
    """Stores that encrypt or compress: an ETag is unique to a version, and no MD5 of its content."""

    def turned(text: str) -> str:
        return re.sub(r"\b[0-9a-f]{32}\b", lambda etag: etag[0][::-1], text)

    headers = {name: turned(value) if name == "if-match" else value for name, value in question.headers.items()}
    answered = ask(replace(question, headers=headers))
    told = {name: turned(value) if name == "etag" else value for name, value in answered.headers.items()}
    body = answered.body
    if b"<ETag>" in body:
        body = re.sub(rb"<ETag>.*?</ETag>", lambda etag: turned(etag[0].decode()).encode(), body)
    return Answer(answered.status, told, body)


def forgets_metadata(ask: Ask, question: Question) -> Answer:
    """A gateway before something else: what was noted beside an object is lost."""
    answered = ask(question)
    kept = {name: value for name, value in answered.headers.items() if not name.startswith("x-amz-meta-")}
    return Answer(answered.status, kept, answered.body)


def tells_checksums_of_copies(ask: Ask, question: Question) -> Answer:
    """Amazon: the answer to a copy has the SHA-256 of the content, where it was written with one. Moto's hasn't."""
    answered = ask(question)
    if not is_copy(question) or answered.status != 200:
        return answered
    made = ask(aside(question, "GET")).body
    checksum = base64.b64encode(hashlib.sha256(made).digest())
    body = re.sub(rb"<ChecksumSHA256.*?(/>|</ChecksumSHA256>)", b"", answered.body)
    body = body.replace(
        b"</CopyObjectResult>", b"<ChecksumSHA256>" + checksum + b"</ChecksumSHA256></CopyObjectResult>"
    )
    headers = {name: value for name, value in answered.headers.items() if name != "content-length"}
    return Answer(answered.status, headers, body)


SURVIVED: dict[str, tuple[Quirk, ...]] = {
    "versions without quotes": (unquoted_versions,),
    "500 for a lost race": (lost_races_are_500,),
    "400 for unknown headers": (knows_few_headers(400, "InvalidArgument"),),
    "400 without a word": (knows_few_headers(400, ""),),
    "501 for unknown headers": (knows_few_headers(501, "NotImplemented"),),
    "411 for checksum trailers": (wants_lengths,),
    "conditions on puts alone": (no_conditions_but_of_puts,),
    "ETags that aren't MD5": (other_etags,),
    "no metadata": (forgets_metadata,),
    "checksums of copies": (tells_checksums_of_copies,),
    "all of Ceph": (wants_lengths, no_conditions_but_of_puts, unquoted_versions, lost_races_are_500),
    "everything at once": (
        wants_lengths,
        knows_few_headers(501, "NotImplemented"),
        no_conditions_but_of_puts,
        unquoted_versions,
        lost_races_are_500,
        other_etags,
        forgets_metadata,
    ),
}


class Busy:
    """A store that serves so many requests a second, and asks whoever comes beyond that to slow down; a quirk."""

    def __init__(self, rate: float) -> None:
        self.rate, self.served, self.refused = rate, 0, 0
        self._left, self._looked, self._counting = rate / 2, time.monotonic(), threading.Lock()

    def __call__(self, ask: Ask, question: Question) -> Answer:
        with self._counting:
            now = time.monotonic()
            self._left = min(self.rate / 2, self._left + (now - self._looked) * self.rate)
            self._looked = now
            if self._left < 1:
                self.refused += 1
                return error(503, "SlowDown")
            self._left -= 1
            self.served += 1
        return ask(question)


# What is to be refused.


def ignores_conditions(ask: Ask, question: Question) -> Answer:
    """Ceph 16 in a bucket with versioning, and many an older store: the last writer wins."""
    return ask(without(question, *CONDITIONS))


def ignores_versions(ask: Ask, question: Question) -> Answer:
    return ask(without(question, "if-match"))


def ignores_versions_without_quotes(ask: Ask, question: Question) -> Answer:
    """If-Match in quotes never matches, and is ignored without."""
    if '"' in question.headers.get("if-match", ""):
        return error(412, "PreconditionFailed")
    return ask(without(question, "if-match"))


def matches_what_is_gone(ask: Ask, question: Question) -> Answer:
    """A replacement of what somebody has removed brings it back."""
    answered = ask(question)
    return ask(without(question, *CONDITIONS)) if is_conditional_put(question) and answered.status == 404 else answered


def looks_first_and_writes_later(ask: Ask, question: Question) -> Answer:
    """A gateway that checks a condition by itself: of two writers at the same moment both win."""
    if not is_conditional_put(question):
        return ask(question)
    found = ask(aside(question, "HEAD"))
    there = found.headers.get("etag") if found.status == 200 else None
    LOOKED.append(question.path)
    deadline = time.monotonic() + 1.5  # for a second one to come, before the client doubts that it will be answered
    while "contested" in question.path and LOOKED.count(question.path) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    expected = question.headers.get("if-match")
    return ask(without(question, *CONDITIONS)) if there == expected else error(412, "PreconditionFailed")


LOOKED: list[str] = []
"""The paths of those who have looked before they write."""


def refuses_every_version(ask: Ask, question: Question) -> Answer:
    return error(412, "PreconditionFailed") if "if-match" in question.headers else ask(question)


def knows_no_conditions(status: int, code: str) -> Quirk:
    def quirk(ask: Ask, question: Question) -> Answer:
        return error(status, code) if is_conditional_put(question) else ask(question)

    return quirk


def copies_half(ask: Ask, question: Question) -> Answer:
    answered = ask(question)
    if is_copy(question) and answered.status == 200:
        made = ask(aside(question, "GET"))
        noted = {name: value for name, value in made.headers.items() if name.startswith("x-amz-meta-")}
        ask(aside(question, "PUT", noted, made.body[: len(made.body) // 2]))
    return answered


def copies_nothing(ask: Ask, question: Question) -> Answer:
    """An answer that says that all went well, and nothing was done."""
    if not is_copy(question):
        return ask(question)
    return Answer(200, {"content-type": "application/xml"}, b"<CopyObjectResult><ETag>0</ETag></CopyObjectResult>")


def keeps_what_is_deleted(ask: Ask, question: Question) -> Answer:
    return Answer(204, {}, b"") if question.method == "DELETE" else ask(question)


REFUSED: dict[str, tuple[Quirk, str]] = {
    "ignored conditions": (ignores_conditions, "ignores the condition of a write (IfNoneMatch)"),
    "ignored versions": (ignores_versions, "ignores the condition of a write (IfMatch)"),
    "ignored without quotes": (ignores_versions_without_quotes, "ignores the condition of a write (IfMatch)"),
    "what is gone matches": (matches_what_is_gone, "ignores the condition of a write (IfMatch)"),
    "two winners": (looks_first_and_writes_later, "lets a second writer win"),
    "no version matches": (refuses_every_version, "refuses to replace an object even if nobody has changed it"),
    "501 for conditions": (knows_no_conditions(501, "NotImplemented"), "doesn't know conditional writes"),
    "400 for conditions": (knows_no_conditions(400, "InvalidArgument"), "doesn't know conditional writes"),
    "half copies": (copies_half, "makes copies that aren't whole"),
    "no copies": (copies_nothing, "makes copies that aren't whole"),
    "deleted and there": (keeps_what_is_deleted, "still has what was deleted"),
}


def expires_after(writes: int, path: str) -> Quirk:
    """Credentials that are good for so many writes to a path."""
    made = 0
    counting = threading.Lock()

    def quirk(ask: Ask, question: Question) -> Answer:
        nonlocal made
        with counting:
            if made == writes:
                return error(400, "ExpiredToken")
            made += question.method == "PUT" and path in question.path
        return ask(question)

    return quirk


# What passes.

FAULTS: dict[str, tuple[Fault, str]] = {
    "503 SlowDown": (answer(503, "SlowDown"), "GET HEAD PUT DELETE"),
    "500": (answer(500, "InternalError"), "GET HEAD PUT DELETE"),
    "409": (answer(409, "ConditionalRequestConflict"), "PUT"),
    "400 for half a body": (answer(400, "IncompleteBody"), "PUT"),
    "resets": (lost_request, "GET HEAD PUT DELETE"),
    "lost answers": (lost_reply, "GET HEAD PUT DELETE"),
    "half bodies": (torn_reply, "GET"),
    "half requests": (half_request, "PUT"),
    "time-outs": (hang, "GET HEAD PUT DELETE"),
}
