"""Write examples/catalog.parquet: a manifest as a shop might hand it over, with everything in it that goes wrong.

python examples/make_catalog.py
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("sku", pa.string()),
        pa.field("title", pa.string()),
        pa.field("color", pa.string()),
        pa.field("price", pa.decimal128(10, 2)),
        pa.field("prompt", pa.string()),
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("steps", pa.int32()),
        pa.field("guidance", pa.float64()),
        pa.field("variants", pa.int32()),
        pa.field("profile", pa.string()),
    ]
)

# title, colour, price, prompt
ENGLISH = [
    ("Mug", "blue", "12.90", "a blue mug on a white background, studio photo"),
    ("Mug", "red", "12.90", "Red coffee mug, glossy, plain white backdrop, soft light"),
    ("Water bottle", "teal", "19.00", "teal water bottle, centered, pure white background, product shot"),
    ("T-shirt", "yellow", "15.50", "a yellow t-shirt with stripes, white studio background"),
    ("T-shirt", "black", "15.50", "Black tee shirt – fabric – plain white"),
    ("Running shoe", "green", "79.00", "green running shoe on a light grey background, high detail"),
    ("Handbag", "pink", "119.00", "a pink leather handbag, white background, catalogue picture"),
    ("Table lamp", "orange", "45.00", "an orange table lamp on a wooden tabletop"),
    ("Dining chair", "brown", "89.00", "brown wooden dining chair in front of a living room wall"),
    ("Wristwatch", "purple", "149.00", "a purple wristwatch on a plain white backdrop"),
    ("Baseball cap", "red", "18.00", "red baseball cap, white background, product photo"),
    ("Notebook", "teal", "9.90", "a teal hardcover book, white studio background"),
    ("Backpack", "grey", "64.00", "large grey backpack on a pale blue background"),
    ("Vase", "white", "32.00", "a white vase on a soft gray background, centered"),
    ("Umbrella", "yellow", "24.00", "yellow umbrella, pure white background"),
    ("Chef's knife", "black", "39.00", "a chef's knife with a black handle, white background, product photo"),
    ("Teapot", "green", "42.00", "green teapot, glazed, white background, soft light"),
    ("Summer dress", "red", "59.00", "a red polka-dot summer dress on a white background"),
    ("Trousers", "brown", "49.00", "brown trousers, plain white, catalogue picture"),
    ("Sofa", "blue", "899.00", "a large blue sofa, pale beige background"),
    ("Headphones", "orange", "129.00", "orange headphones on a white studio background"),
    ("Scented candle", "purple", "14.00", "small purple candle on a wooden tabletop, soft light"),
    ("Cushion", "teal", "22.00", "a teal checked cushion, white background"),
    ("Suitcase", "pink", "139.00", "pink suitcase, white background, high detail"),
    ("Alarm clock", "red", "27.00", "a red alarm clock on a pale green background"),
    ("Winter boot", "brown", "99.00", "brown leather winter boot, white background, studio photo"),
    ("Scarf", "purple", "29.00", "a purple scarf, plain white backdrop"),
    ("Hair dryer", "blue", "55.00", "a blue hair dryer on a white background"),
    ("Toy car", "yellow", "11.00", "yellow toy car, pure white background, product shot"),
    ("Camera", "black", "349.00", "black compact camera on a light grey background"),
]

CHINESE = [
    ("马克杯", "红色", "59.00", "红色马克杯，白色背景，产品摄影"),
    ("运动鞋", "蓝色", "399.00", "一双蓝色运动鞋，纯白背景，高清"),
    ("手提包", "黑色", "699.00", "黑色皮革手提包，白底，电商主图"),
    ("台灯", "绿色", "189.00", "绿色台灯，浅灰色背景，柔光"),
    ("雨伞", "紫色", "89.00", "紫色雨伞，白色背景，居中"),
    ("茶壶", "橙色", "219.00", "一个橙色茶壶，白底，产品摄影"),
    ("连衣裙", "粉色", "359.00", "粉色连衣裙，纯白背景，电商主图"),
    ("吉他", "棕色", "1299.00", "棕色木吉他，白色背景，高清"),
]

# The prompt of these is built by the job's template from title and color.
TEMPLATED = [
    ("花瓶", "青色", "129.00"),
    ("双肩包", "红色", "259.00"),
    ("椅子", "黄色", "329.00"),
    ("抱枕", "灰色", "79.00"),
    ("靴子", "黑色", "459.00"),
    ("玩具车", "绿色", "49.00"),
]

BLOCKED = [
    ("Collector's item", "black", "a black handgun on a white background"),
    ("收藏品", "黑色", "黑色手枪，白色背景，产品摄影"),
    ("Collector's item", "black", "a black h.a.n.d-g.u.n on a white background"),
    ("Collector's item", "grey", "a grey p1st0l, studio photo"),
    ("Collector's item", "grey", "grey rifl\u0435 on a wooden tabletop"),  # the last letter is Cyrillic
    ("烟具", "白色", "一支香 *烟，白底"),
    ("Western prop", "brown", "a brown six-shooter, plain white backdrop"),
    ("Field gear", "green", "green tactical blade on a white background"),
    ("Supplies", "teal", "a teal hypodermic, white background, product photo"),
]

REFUSED_BY_A_MARKETPLACE = [
    ("Mug", "green", "a green mug on a white background with a sale banner", None),
    ("Handbag", "blue", "blue handbag, white background, with a watermark", None),
    ("Bowl", "orange", "an orange bowl on a white background with a border", None),
    ("Teapot", "red", "a red teapot on a wooden tabletop", "plain"),
    ("Vase", "blue", "a blue vase on a pale pink background", "plain"),
]

LONG = (
    "The picture is meant for the front page of an online shop. Soft, even light from a large softbox keeps the "
    "shadows gentle and the edges crisp. Nothing else is in the frame, so that the eye goes straight to the article. "
    "It should look like a page from a printed catalogue: clean, calm and true to life. Customers like it because it "
    "lasts for years and is easy to look after. Delivery takes two to three working days, and returns are free within "
    "a month. "
)


def row(number: int, **values: object) -> dict[str, object]:
    """A row with an id and an article number; what isn't given is empty."""
    return {"id": f"item-{number:03}", "sku": f"PS-{1000 + number}", "price": Decimal("0.00"), **values}


def rows() -> list[dict[str, object]]:
    """The rows of the manifest."""
    found: list[dict[str, object]] = []

    def add(**values: object) -> None:
        found.append(row(len(found) + 1, **values))

    sizes = [(None, None)] * 5 + [(320, 256), (256, 320)]
    for number, (title, color, price, prompt) in enumerate(ENGLISH):
        width, height = sizes[number % len(sizes)]
        seed = 7 + number if number % 4 < 2 else None
        add(title=title, color=color, price=Decimal(price), prompt=prompt, width=width, height=height, seed=seed)
    for title, color, price, prompt in CHINESE:
        add(title=title, color=color, price=Decimal(price), prompt=prompt)
    for title, color, price in TEMPLATED:
        add(title=title, color=color, price=Decimal(price))
    for title, color, prompt in BLOCKED:
        add(title=title, color=color, prompt=prompt)
    for title, color, prompt, profile in REFUSED_BY_A_MARKETPLACE:
        add(title=title, color=color, prompt=prompt, profile=profile)

    add(title="Mug", color="purple", prompt="a purple mug on a white background", variants=3)
    add(title="Boot", color="red", prompt="a red boot, white background", negative_prompt="pattern, stripes", steps=16)
    add(title="Bowl", color="teal", prompt="a teal bowl on a white background", profile="plain")
    add(title="Sofa", color="green", prompt="a green sofa, white background, catalogue picture", guidance=1.0)
    add(title="Bottle", color="blue", prompt=f"a blue bottle on a white background. {LONG}")
    add(
        title="Surprise",
        color="black",
        prompt=f"a black backpack on a white background. {LONG * 2} Beside it a gr3nade.",
    )

    add(title="Mug", color="red", prompt="a red mug", width=250)
    add(title="Mug", color="red", prompt="a red mug", steps=0)
    add(title="Mug", color="red", prompt="a red mug", guidance=-1.0)
    add(title="Mug", color="red", prompt="a red mug", seed=-7)
    add(title="Lamp", color=None)  # the template has no colour to work with
    add(title="Mug", color="red", prompt="a red mug", profile="moon")
    found.append({**row(0, title="Mug", color="red", prompt="a red mug"), "id": "item 100/5"})
    return found


def main() -> None:
    """Write the manifest beside this file."""
    table = pa.Table.from_pylist(rows(), schema=SCHEMA)
    pq.write_table(table, Path(__file__).with_name("catalog.parquet"), write_page_checksum=True)


if __name__ == "__main__":
    main()
