"""Write examples/pictures.parquet: source pictures as a shop might hand them over, with everything that goes wrong.

python -m examples.make_pictures

Some pictures are files beside the manifest, in examples/pictures, the others stand in the manifest as bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from models.miniature.world.world import Scene, draw

HERE = Path(__file__).parent
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),  # as in Hugging Face datasets
        pa.field("caption", pa.string()),
        pa.field("layers", pa.int32()),
        pa.field("seed", pa.int64()),
    ]
)
PLAIN = Scene("mug", "red", "plain", "plain", "white", "large", "centre", "none")
PRODUCTS = [  # title, scene
    ("Teapot", replace(PLAIN, kind="teapot", colour="teal", material="glossy")),
    ("T-shirt", replace(PLAIN, kind="t-shirt", colour="yellow", pattern="stripes", background="grey")),
    ("Backpack", replace(PLAIN, kind="backpack", colour="blue", background="table", size="medium")),
    ("Lamp", replace(PLAIN, kind="lamp", colour="orange", background="room")),
    ("Umbrella", replace(PLAIN, kind="umbrella", colour="purple", background="green", width=320)),
    ("Bottle", replace(PLAIN, kind="bottle", colour="green", background="shelf", size="medium", height=320)),
    ("Sofa", replace(PLAIN, kind="sofa", colour="pink", background="blue", pattern="dots", width=320)),
    ("Vase", replace(PLAIN, kind="vase", colour="white", background="beige", size="medium", position="left")),
    ("Clock", replace(PLAIN, kind="clock", colour="red", background="pink", size="medium", position="right")),
    ("Boot", replace(PLAIN, kind="boot", colour="brown", background="grass", material="leather")),
]
FAULTY = [  # three layers: what lies over the product is one of its own
    ("Camera", replace(PLAIN, kind="camera", colour="black", background="blue", fault="banner")),
    ("Bowl", replace(PLAIN, kind="bowl", colour="orange", background="grey", fault="border")),
    ("Suitcase", replace(PLAIN, kind="suitcase", colour="yellow", background="white", fault="watermark")),
    ("Dress", replace(PLAIN, kind="dress", colour="purple", background="green", fault="banner")),
]


def drawing(scene: Scene, seed: int) -> Image.Image:
    """A picture of a scene."""
    return Image.fromarray(draw(scene, Random(seed)).picture)


def encoded(picture: Image.Image, name: str, **options: object) -> bytes:
    """A picture in a format of Pillow's."""
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def deep_png(picture: Image.Image) -> bytes:
    """A PNG of 16 bits a channel, which Pillow doesn't write."""
    pixels = np.asarray(picture.convert("RGB")).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return png(struct.pack(">IIBBBBB", picture.width, picture.height, 16, 2, 0, 0, 0), rows)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it is 60,000 pixels a side."""
    return png(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), bytes(100_000))


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG of a header and unpacked rows."""
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def rows() -> list[dict[str, object]]:
    """The rows of the manifest; pictures that are files are written on the way."""
    found: list[dict[str, object]] = []

    def add(title: str, image: bytes | str | None, **values: object) -> None:
        held = {"bytes": image, "path": None} if isinstance(image, bytes) else {"bytes": None, "path": image}
        found.append({"id": f"photo-{len(found) + 1:02}", "title": title, "image": held if image else None, **values})

    def file(name: str, data: bytes) -> str:
        (HERE / "pictures").mkdir(exist_ok=True)
        (HERE / "pictures" / name).write_bytes(data)
        return f"pictures/{name}"

    for number, (title, scene) in enumerate(PRODUCTS):
        picture = drawing(scene, number)
        add(title, encoded(picture, "JPEG", quality=92) if number % 2 else encoded(picture, "PNG"), layers=2)
    for number, (title, scene) in enumerate(FAULTY):
        add(title, encoded(drawing(scene, 20 + number), "PNG"), layers=3)

    sneaker = drawing(replace(PLAIN, kind="sneaker", colour="green", background="grey", width=320), 24)
    add("Sneaker", file("sneaker.jpg", encoded(sneaker, "JPEG", quality=92)), layers=2)
    chair = drawing(replace(PLAIN, kind="chair", colour="brown", background="room", material="wood"), 25)
    add("Chair", file("chair.webp", encoded(chair, "WEBP", quality=92)), layers=2)
    watch = drawing(replace(PLAIN, kind="watch", colour="blue", background="pink", size="medium"), 26)
    add("Watch, a JPEG by another name", file("watch.png", encoded(watch, "JPEG", quality=92)), layers=2)

    mug, cap = drawing(PLAIN, 30), drawing(replace(PLAIN, kind="cap", colour="blue", background="grey"), 31)
    add(
        "Mug, the caption given",
        encoded(mug, "WEBP", lossless=True),
        layers=2,
        caption="a red mug on a white background",
    )
    add("Mug, another seed", encoded(mug, "PNG"), layers=2, seed=7)
    add("Cap, CMYK", encoded(cap.convert("CMYK"), "JPEG", quality=95), layers=2)
    add("Cap, 16 bits", deep_png(cap), layers=2)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    add("Cap, turned", encoded(cap.rotate(90, expand=True), "JPEG", quality=95, exif=turned), layers=2)
    add("Mug, no part for a third layer", encoded(mug, "PNG"), layers=3)
    add("Pistol", encoded(drawing(replace(PLAIN, kind="handgun", colour="black"), 32), "PNG"), layers=2)

    whole = encoded(cap, "PNG")
    add("Cut off", whole[: len(whole) // 2], layers=2)
    add("Decompression bomb", bomb(), layers=2)
    add("Animated", encoded(mug, "GIF", save_all=True, append_images=[cap]), layers=2)
    add("Not a picture", b"<html>Please sign in</html>", layers=2)
    add("Nothing", None, layers=2)
    add("Not there", "pictures/missing.jpg", layers=2)
    add("Out of the manifest's folder", "../README.md", layers=2)
    add("On a host that the job doesn't name", "https://example.com/mug.jpg", layers=2)
    add("Too many layers", whole, layers=99)
    return found


def main() -> None:
    """Write the manifest beside this file."""
    table = pa.Table.from_pylist(rows(), schema=SCHEMA)
    pq.write_table(table, HERE / "pictures.parquet", write_page_checksum=True, compression="zstd")


if __name__ == "__main__":
    main()
