"""Write examples/edits.parquet: edits of pictures as a shop might ask for them, with everything that goes wrong.

python -m examples.make_edits
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from examples.make_pictures import PLAIN, bomb, encoded
from models.miniature.world.world import Drawing, Scene, draw

HERE = Path(__file__).parent
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as in Hugging Face datasets
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("image", PICTURE),
        pa.field("image2", PICTURE),
        pa.field("mask", PICTURE),
        pa.field("instruction", pa.string()),
        pa.field("instruction_name", pa.string()),
        pa.field("scene", pa.string()),
        pa.field("colour", pa.string()),
        pa.field("keep", pa.string()),
        pa.field("seed", pa.int64()),
    ]
)
ROOM = replace(PLAIN, background="room")
# Title, scene, instruction, the ready-made one whose checks judge it, and what that one's fields hold.
EDITS: list[tuple[str, Scene, str, str, dict[str, str]]] = [
    ("Mug", replace(PLAIN, background="table"), "put it on a pure white background", "white-background", {}),
    (
        "Teapot",
        replace(PLAIN, kind="teapot", colour="teal", material="glossy", background="grey"),
        "replace the background with a plain white backdrop",
        "white-background",
        {},
    ),
    (
        "Backpack",
        replace(PLAIN, kind="backpack", colour="blue", size="medium"),
        "put the backpack on a wooden tabletop",
        "scene",
        {"scene": "wooden tabletop"},
    ),
    (
        "Lamp",
        replace(PLAIN, kind="lamp", colour="orange"),
        "show it in a living room",
        "scene",
        {"scene": "living room"},
    ),
    (
        "Boot",
        replace(PLAIN, kind="boot", colour="brown", material="leather", background="beige"),
        "place the boot on a lawn",
        "scene",
        {"scene": "lawn"},
    ),
    (
        "Sofa",
        replace(PLAIN, kind="sofa", colour="pink", background="grey", pattern="dots", width=288, height=224),
        "change the background to a light blue background",
        "scene",
        {"scene": "light blue background"},
    ),
    (
        "T-shirt",
        replace(PLAIN, kind="t-shirt", colour="yellow", background="grey"),
        "make the t-shirt red",
        "recolour",
        {"colour": "red"},
    ),
    (
        "Vase",
        replace(PLAIN, kind="vase", colour="green", background="beige", size="medium", width=224, height=288),
        "change the colour to blue",
        "recolour",
        {"colour": "blue"},
    ),
    (
        "Bowl",
        replace(PLAIN, kind="bowl", colour="orange", background="grey", fault="banner"),
        "remove the sale banner",
        "remove-text",
        {},
    ),
    (
        "Suitcase",
        replace(PLAIN, kind="suitcase", colour="yellow", fault="watermark"),
        "get rid of the watermark",
        "remove-text",
        {},
    ),
    (
        "保温瓶",
        replace(PLAIN, kind="bottle", colour="green", background="shelf"),
        "把背景换成白底",
        "white-background",
        {},
    ),
    (
        "雨伞",
        replace(PLAIN, kind="umbrella", colour="purple", background="green"),
        "背景换成纯白背景",
        "white-background",
        {},
    ),
    (
        "椅子",
        replace(PLAIN, kind="chair", colour="brown", material="wood"),
        "把背景换成客厅",
        "scene",
        {"scene": "客厅"},
    ),
    (
        "时钟",
        replace(PLAIN, kind="clock", colour="red", background="pink"),
        "场景换成置物架",
        "scene",
        {"scene": "置物架"},
    ),
    (
        "帽子",
        replace(PLAIN, kind="cap", colour="blue", background="grey"),
        "把帽子改成黄色",
        "recolour",
        {"colour": "黄色"},
    ),
    (
        "相机",
        replace(PLAIN, kind="camera", colour="black", background="blue", fault="border"),
        "去掉边框",
        "remove-text",
        {},
    ),
]


def stored(pixels: np.ndarray, name: str = "PNG", **options: object) -> bytes:
    """Pixels in a format of Pillow's."""
    return encoded(Image.fromarray(pixels), name, **options)


def outline(drawing: Drawing) -> bytes:
    """A mask of a drawing's product: white on it, black beside it."""
    return stored(np.where(drawing.product[..., 3] >= 128, 255, 0).astype(np.uint8))


def rows() -> list[dict[str, object]]:
    """The rows of the manifest."""
    found: list[dict[str, object]] = []

    def add(title: str, image: bytes | None, instruction: str | None, **values: object) -> None:
        row: dict[str, object] = {"id": f"edit-{len(found) + 1:02}", "title": title, "instruction": instruction}
        for column, held in {"image": image, **values}.items():
            row[column] = {"bytes": held, "path": None} if isinstance(held, bytes) else held
        found.append(row)

    for number, (title, scene, instruction, name, values) in enumerate(EDITS):
        picture = draw(scene, Random(40 + number)).picture
        image = stored(picture) if number % 4 == 0 else stored(picture, "JPEG", quality=92)
        add(title, image, instruction, instruction_name=name, **values)

    sneaker = draw(replace(ROOM, kind="sneaker", colour="green"), Random(60))
    white = {"instruction_name": "white-background"}
    add("Sneaker, its mask given", stored(sneaker.picture), "use a plain white", **white, mask=outline(sneaker))
    add(
        "Sneaker, its own pixels kept",
        stored(sneaker.picture),
        "use a plain white",
        **white,
        mask=outline(sneaker),
        keep="product",
    )
    watch = draw(replace(PLAIN, kind="watch", colour="blue", background="pink", size="medium"), Random(61))
    meadow = {"instruction_name": "scene", "scene": "meadow"}
    add("Watch, cut out before", stored(watch.product), "put the watch on a meadow", **meadow)
    table = {"instruction_name": "scene", "scene": "wooden tabletop"}
    mug = draw(PLAIN, Random(62)).picture
    cap = draw(replace(PLAIN, kind="cap", colour="blue", background="table"), Random(63)).picture
    add("Mug, on the background of a cap", stored(mug), "use the background of picture 2", **table, image2=stored(cap))
    add("Mug, another seed, and nothing compared", stored(mug), "make it teal", seed=7)

    add("Asked for what no shop may show", stored(mug), "put a rifle beside the mug")
    add(
        "Recoloured with its own pixels kept",
        stored(mug),
        None,
        instruction_name="recolour",
        colour="red",
        keep="product",
    )
    add("A scene that nobody named", stored(mug), None, instruction_name="scene")
    add("No instruction", stored(mug), None)
    add("An instruction that nobody wrote", stored(mug), None, instruction_name="gift-wrap")
    add(
        "A mask of another size",
        stored(mug),
        "use a plain white",
        **white,
        mask=stored(np.full((64, 64), 255, np.uint8)),
    )
    add(
        "A mask of nothing",
        stored(mug),
        "use an oak table top",
        **table,
        mask=stored(np.zeros(mug.shape[:2], np.uint8)),
    )
    add("A second picture that is cut off", stored(mug), "use an oak table top", image2=stored(cap)[:600])
    add("Decompression bomb", bomb(), "use an oak table top", **table)
    return found


def main() -> None:
    """Write the manifest beside this file."""
    table = pa.Table.from_pylist(rows(), schema=SCHEMA)
    pq.write_table(table, HERE / "edits.parquet", write_page_checksum=True, compression="zstd")


if __name__ == "__main__":
    main()
