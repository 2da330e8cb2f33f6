"""A hostile picture fails alone: in bounded memory and time, whatever becomes of the process that decodes it."""

from __future__ import annotations

import io
import os
import signal
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tasks.sources.decoder import Decoder
from tasks.sources.kept_workers import MOST_KEPT, kept
from tasks.sources.pixels import Limits
from tasks.sources.source_error import SourceError

HOSTILE = Path(__file__).parents[4] / "shared" / "data" / "images" / "hostile"
MIB = 1 << 20
GOOD = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")

# What isn't here has a kind that isn't read. "picture": a viewer shows it too, so it may be decoded.
EXPECTED = {
    "badbitcount.bmp": "source_corrupt",
    "baddens1.bmp": "picture",
    "badfilesize.bmp": "picture",
    "badpalettesize.bmp": "source_corrupt",
    "badrle.bmp": "picture",
    "broken.png": "source_corrupt",
    "broken_exif_dpi.jpg": "picture",
    "crash-0da013a13571cc8eb457a39fee8db18f8a3c7127.tif": "picture",
    "crash-1152ec2d1a1a71395b6f2ce6721c38924d025bf3.tif": "source_corrupt",
    "crash-2020-10-test.tif": "source_corrupt",
    "crash-63b1dffefc8c075ddc606c0a2f5fdc15ece78863.tif": "source_corrupt",
    "crash-86214e58da443d2b80820cff9677a38a33dcbbca.tif": "source_corrupt",
    "decompression_bomb.gif": "source_too_large",
    "decompression_bomb_extents.gif": "source_unsupported",
    "png_decompression_dos.png": "source_too_large",
    "timeout-6646305047838720": "source_corrupt",
    "truncated_end_chunk.png": "source_corrupt",
    "truncated_image.png": "source_corrupt",
}


def saved(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    (image if kind in ("PNG", "WEBP", "TIFF") else image.convert("RGB")).save(buffer, kind, **options)
    return buffer.getvalue()


def slow_jpeg(side: int = 2000, scans: int = 20_000) -> bytes:
    """A small file that takes minutes: a blank progressive JPEG whose last scan is repeated."""
    data = saved(np.full((side, side, 3), 128, np.uint8), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "tasks.sources.decoder_process" in child.cmdline()]


def outcome(decoder: Decoder, data: bytes) -> str:
    try:
        picture = decoder.decode(data)
    except SourceError as error:
        return error.reason
    assert picture.pixels.shape == (picture.height, picture.width, 4)
    return "picture"


def still_works(decoder: Decoder) -> bool:
    return np.array_equal(decoder.decode(saved(GOOD)).pixels, GOOD)


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    """End what earlier decoders kept in this process, so that each test sees its own alone."""
    kept.end()
    yield
    kept.end()
    assert processes() == []


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(workers=1, limits=Limits(memory=256 * MIB, cpu_seconds=10, seconds=60)) as decoder:
        yield decoder
    assert processes() == []


@pytest.mark.skipif(not HOSTILE.exists(), reason="the public test data is not beside the project")
def test_every_hostile_file_ends_in_its_reason_or_a_picture_and_takes_little(decoder: Decoder) -> None:
    files = sorted(HOSTILE.iterdir())
    assert len(files) == 32
    for file in files:
        assert outcome(decoder, file.read_bytes()) == EXPECTED.get(file.name, "source_unsupported"), file.name
    (process,) = processes()  # and it is the one that the first of them was given to
    assert process.cpu_times().user + process.cpu_times().system < 30
    assert process.memory_info().rss < 200 * MIB
    assert still_works(decoder)


def test_a_file_that_is_cut_off_is_never_a_picture(decoder: Decoder) -> None:
    for kind in FORMATS:
        data = saved(GOOD, kind)
        for cut in (len(data) // 20, len(data) // 2, len(data) - 40):
            assert outcome(decoder, data[:cut]) in ("source_corrupt", "source_unsupported"), (kind, cut)


def test_a_damaged_file_ends_in_a_reason_or_a_picture(decoder: Decoder) -> None:
    random = np.random.default_rng(0)
    for kind in FORMATS:
        data = np.frombuffer(saved(GOOD, kind), np.uint8)
        ends: Counter[str] = Counter()
        for _ in range(100):
            damaged = data.copy()
            places = random.integers(0, min(len(data), 400), random.integers(1, 12))
            damaged[places] = random.integers(0, 256, len(places))
            ends[outcome(decoder, damaged.tobytes())] += 1
        assert ends["source_corrupt"] > 0, (kind, ends)
    assert still_works(decoder)


def test_a_picture_too_large_is_refused_by_its_header(decoder: Decoder) -> None:
    for size in ((60_000, 60_000), (20_000, 2), (2, 20_000), (9000, 9000)):
        assert outcome(decoder, png_of(*size)) == "source_too_large", size
        assert outcome(decoder, tiff_of(*size)) == "source_too_large", size


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few pixels that says it is as large."""
    small = saved(np.zeros((3, 5), np.uint8))
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[24:29]
    return small[:12] + head + zlib.crc32(head).to_bytes(4, "big") + small[33:]


def tiff_of(width: int, height: int) -> bytes:
    """A TIFF of one strip that says it is as large."""
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 4))
    entries = b"".join(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags)
    return b"II*\0\x0c\0\0\0" + bytes(4) + len(tags).to_bytes(2, "little") + entries + bytes(4)


def test_a_picture_that_wants_more_memory_than_it_may_have_is_refused(decoder: Decoder) -> None:
    large = saved(np.zeros((7900, 7900), np.uint8))
    assert len(large) < MIB
    assert outcome(decoder, large) == "source_too_large"
    (process,) = processes()
    assert process.memory_info().rss < 400 * MIB
    assert still_works(decoder)
    with Decoder(workers=1) as usual:
        assert usual.decode(large).pixels.shape == (7900, 7900, 4)


def test_a_picture_that_wants_more_computing_than_it_may_have_is_refused() -> None:
    with Decoder(workers=1, limits=Limits(cpu_seconds=1, seconds=120)) as decoder:
        with pytest.raises(SourceError, match="of computing") as refused:
            decoder.decode(slow_jpeg())
        assert (refused.value.reason, refused.value.retryable) == ("source_too_large", False)
        assert still_works(decoder)


def test_a_picture_that_takes_longer_than_it_may_is_given_up() -> None:
    with Decoder(workers=1, limits=Limits(seconds=3.0)) as decoder:
        assert still_works(decoder)  # in far less than 3 s, also on a busy machine
        picture, start = slow_jpeg(), time.monotonic()
        with pytest.raises(SourceError, match=r"over 3 s") as refused:
            decoder.decode(picture)
        assert time.monotonic() - start < 40  # it takes minutes
        assert (refused.value.reason, refused.value.retryable) == ("source_too_large", True)
        assert still_works(decoder)


@pytest.mark.parametrize(
    ("number", "reason", "retryable"),
    [
        (signal.SIGSEGV, "source_corrupt", False),
        (signal.SIGABRT, "source_corrupt", False),
        (signal.SIGKILL, "source_too_large", True),
    ],
)
def test_a_process_that_dies_fails_its_own_picture_alone(
    decoder: Decoder, number: signal.Signals, reason: str, retryable: bool
) -> None:
    assert still_works(decoder)
    (process,) = processes()
    with ThreadPoolExecutor(2) as threads:
        dying = threads.submit(decoder.decode, slow_jpeg())
        waiting = threads.submit(still_works, decoder)
        before = process.cpu_times().user
        while process.cpu_times().user < before + 0.1:
            time.sleep(0.01)
        process.send_signal(number)
        error = dying.exception(200)
        assert waiting.result(200)
    assert isinstance(error, SourceError)
    assert (error.reason, error.retryable) == (reason, retryable)


def test_a_process_that_died_while_idle_is_replaced_unnoticed(decoder: Decoder) -> None:
    assert still_works(decoder)
    (process,) = processes()
    process.kill()
    process.wait(200)
    assert still_works(decoder)


def test_many_threads_share_few_processes() -> None:
    pictures = [np.full((20 + number, 30, 4), number, np.uint8) for number in range(24)]
    with Decoder(workers=2) as decoder, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(decoder.decode, map(saved, pictures)))
        assert len(processes()) <= 2
    assert processes() == []
    for picture, pixels in zip(found, pictures, strict=True):
        assert np.array_equal(picture.pixels, pixels)


def test_a_process_knows_no_secret_and_hears_no_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with Decoder(workers=1) as decoder:
        assert still_works(decoder)
        (process,) = processes()
        assert "canary" not in str(process.environ())
        assert os.getpgid(process.pid) != os.getpgid(0)
        assert process.memory_info().rss < 150 * MIB  # no torch, no Prefect


def test_a_decoder_that_cannot_start_its_process_blames_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Decoder(workers=1) as decoder, pytest.raises(OSError, match="doesn't start"):
        decoder.decode(saved(GOOD))


def test_a_process_is_kept_for_a_decoder_with_the_same_limits_in_the_same_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limits = Limits(memory=256 * MIB)
    with Decoder(limits=limits, keeps=True) as decoder:
        assert still_works(decoder)
    [first] = processes()
    with Decoder(limits=limits, keeps=True) as decoder, Decoder(limits=limits, keeps=True) as another:
        assert still_works(decoder)
        assert processes() == [first]
        assert still_works(another)
        assert len(processes()) == 2
    with Decoder(limits=replace(limits, pixels=5_000_000), keeps=True) as decoder:
        assert still_works(decoder)
        assert len(processes()) == 3
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Decoder(limits=limits, keeps=True) as decoder:
        assert still_works(decoder)
        assert len(processes()) == 4
    monkeypatch.undo()
    with Decoder(limits=limits) as decoder:
        assert still_works(decoder)
        assert len(processes()) == 5
    assert len(processes()) == 4


def test_a_kept_process_that_died_is_replaced_unnoticed() -> None:
    with Decoder(keeps=True) as decoder:
        assert still_works(decoder)
    [first] = processes()
    first.kill()
    first.wait(200)
    with Decoder(keeps=True) as decoder:
        assert still_works(decoder)
        assert processes() != [first]


def test_few_processes_are_kept_with_nothing_to_do() -> None:
    with ExitStack() as opened:
        for _ in range(MOST_KEPT + 1):
            assert still_works(opened.enter_context(Decoder(keeps=True)))
    assert len(processes()) == MOST_KEPT
