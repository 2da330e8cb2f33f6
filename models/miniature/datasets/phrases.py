"""Short phrases for the CLIP model: what policies, shops and people name things by, with what each phrase means.

A phrase's meaning is a row of numbers like `drawings.attributes`, with `UNSAID` for all that it leaves open. Since
the meaning is known, training knows of every picture and of every caption whether a phrase is true of it.
"""

from dataclasses import dataclass
from random import Random

from models.miniature.datasets.drawings import ATTRIBUTES, UNSAID, said
from models.miniature.language.captions import caption
from models.miniature.language.clauses import brand
from models.miniature.language.names import CLEAN, FILLERS, PROSE, SHOTS, Language
from models.miniature.world.world import COLOURS, random_scene

ALIEN = -2  # a value that no scene has: of texts about things that this world doesn't hold

FRAMES: dict[Language, tuple[str, ...]] = {
    "en": (
        "{}",
        "{}",
        "{a}",
        "{a}",
        "a photo of {a}",
        "a picture of {a}",
        "an image of {a}",
        "a photo showing {a}",
        "product photo of {a}",
        "{} photo",
        "the {}",
        "this is {a}",
        "{}s",
    ),
    "zh": ("{}", "{}", "一个{}", "{}的照片", "一张{}的图片", "{}商品图", "{}产品摄影", "图中是{}", "一件{}"),
}
FAULTY: dict[Language, tuple[str, ...]] = {
    "en": (
        "{}",
        "{a}",
        "a photo with {a}",
        "a picture with {a}",
        "a product photo with {a}",
        "an image with {a}",
        "{a} over the product",
        "{a} on the picture",
        "photo of a product with {a}",
        "there is {a}",
    ),
    "zh": ("{}", "带{}的图片", "带{}的商品图", "图片上有{}", "有{}", "带{}的照片"),
}
FAULT_WORDS: dict[str, dict[Language, tuple[str, ...]]] = {
    "banner": {
        "en": ("sale banner", "banner", "promotional banner", "discount banner", "banner with text", "sale ribbon"),
        "zh": ("促销横幅", "横幅", "打折横幅", "广告横幅"),
    },
    "watermark": {
        "en": ("watermark", "repeated watermark", "stock-photo watermark", "watermark text"),
        "zh": ("水印", "满屏水印", "图库水印"),
    },
    "border": {
        "en": ("border", "thick border", "coloured border", "frame around it", "thick frame", "colored border"),
        "zh": ("边框", "粗边框", "彩色边框"),
    },
}
GENERIC: dict[Language, tuple[str, ...]] = {
    "en": ("a product photo", "a photo", "a picture", "product photo", "a photo of a product", "a catalogue picture"),
    "zh": ("商品图", "产品照片", "一张图片", "一件商品"),
}
# Things that this world doesn't hold. Some share a word with a forbidden one and are still harmless.
ALIENS: dict[Language, tuple[str, ...]] = {
    "en": (
        *("bicycle", "apple", "tree", "house", "dog", "cat", "horse", "car tyre", "laptop", "keyboard", "television"),
        *("fridge", "oven", "spoon", "fork", "plate", "glass jar", "carpet", "curtain", "mirror", "ladder", "hammer"),
        *("screwdriver", "drill", "glue gun", "nail gun", "massage gun", "water pistol", "price gun", "heat gun"),
        *("gunmetal finish", "shotgun microphone", "knife block", "butter knife", "palette knife", "knife sharpener"),
        *("rolling pin", "cigarette case", "cigar box", "ashtray", "needle and thread", "knitting needle", "hose"),
        *("pineapple", "hemp rope", "tea leaf", "maple leaf", "bay leaf", "bullet journal", "shot glass", "trigger"),
        *("shoelace", "belt", "necklace", "ring", "earring", "glove", "sock", "swimsuit", "tie", "wallet", "helmet"),
        *("tent", "sleeping bag", "skateboard", "drum", "violin", "piano", "trumpet", "puzzle", "doll", "kite"),
        *("toothbrush", "shampoo", "soap", "perfume", "lipstick", "towel", "blanket", "mattress", "wardrobe", "desk"),
        *("printer", "speaker", "tablet", "charger", "cable", "drone", "robot", "microscope", "telescope", "map"),
        *("bread", "cheese", "milk", "coffee beans", "chocolate", "honey", "rice", "wine", "beer", "juice", "flower"),
    ),
    "zh": (
        *("自行车", "苹果", "大树", "房子", "小狗", "小猫", "电脑", "键盘", "电视", "冰箱", "勺子", "叉子", "盘子"),
        *("地毯", "窗帘", "镜子", "梯子", "锤子", "螺丝刀", "胶枪", "水枪", "筋膜枪", "刀架", "磨刀石", "烟灰缸"),
        *("毛衣针", "菠萝", "茶叶", "枫叶", "皮带", "项链", "戒指", "手套", "袜子", "领带", "钱包", "头盔", "帐篷"),
        *("滑板", "小提琴", "钢琴", "拼图", "牙刷", "洗发水", "香水", "毛巾", "毯子", "打印机", "音箱", "充电器"),
        *("面包", "奶酪", "牛奶", "巧克力", "蜂蜜", "大米", "果汁", "鲜花"),
    ),
}


@dataclass(frozen=True)
class Phrase:
    """A text and what it says, as `drawings.attributes`."""

    text: str
    meaning: tuple[int, ...]


def random_phrase(random: Random) -> Phrase:
    """Make a phrase: a kind of product mostly, or a colour, a fault, a background, something alien, nothing at all."""
    language: Language = random.choices(("en", "zh"), (2, 1))[0]
    make = random.choices(
        (_kind, _coloured_kind, _fault, _faulty_kind, _look, _generic, _clean, _alien, _partial),
        (30, 16, 12, 6, 8, 5, 4, 10, 12),
    )[0]
    phrase = make(random, language)
    return Phrase(dressed(phrase.text, random, language), phrase.meaning) if random.random() < 0.25 else phrase


def dressed(text: str, random: Random, language: Language) -> str:
    """Put around a text what says nothing about the picture: filler, made-up brands, model numbers."""
    comma = ", " if language == "en" else "，"
    extra = [random.choice(FILLERS[language]), random.choice(SHOTS[language]), brand(random), brand(random)]
    for each in random.sample(extra, random.randint(1, 2)):
        text = text + comma + each if random.random() < 0.6 else each + (" " if language == "en" else "") + text
    return text


def _meaning(**values: str) -> tuple[int, ...]:
    return tuple(ATTRIBUTES[name][0].index(values[name]) if name in values else UNSAID for name in ATTRIBUTES)


def _named(random: Random, language: Language, attribute: str) -> tuple[str, str]:
    """A random value of an attribute and a name for it."""
    values, names = ATTRIBUTES[attribute]
    value = random.choice(values)
    return value, random.choice(names[value][language])


def _article(thing: str) -> str:
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _framed(frame: str, thing: str) -> str:
    return frame.format(thing, a=_article(thing))


def _kind(random: Random, language: Language) -> Phrase:
    kind, name = _named(random, language, "kind")
    return Phrase(_framed(random.choice(FRAMES[language]), name), _meaning(kind=kind))


def _coloured_kind(random: Random, language: Language) -> Phrase:
    kind, name = _named(random, language, "kind")
    colour, shade = _named(random, language, "colour")
    thing = f"{shade} {name}" if language == "en" else f"{shade}{name}"
    return Phrase(_framed(random.choice(FRAMES[language]), thing), _meaning(kind=kind, colour=colour))


def _fault_word(random: Random, language: Language) -> tuple[str, str]:
    fault = random.choice(list(FAULT_WORDS))
    return fault, random.choice(FAULT_WORDS[fault][language])


def _fault(random: Random, language: Language) -> Phrase:
    fault, word = _fault_word(random, language)
    return Phrase(_framed(random.choice(FAULTY[language]), word), _meaning(fault=fault))


def _faulty_kind(random: Random, language: Language) -> Phrase:
    kind, name = _named(random, language, "kind")
    fault, word = _fault_word(random, language)
    text = f"{_article(name)} with {_article(word)}" if language == "en" else f"带{word}的{name}"
    return Phrase(text, _meaning(kind=kind, fault=fault))


def _look(random: Random, language: Language) -> Phrase:
    attribute = random.choice(("colour", "material", "pattern", "background"))
    value, name = _named(random, language, attribute)
    if attribute == "background":
        frames = ("{}", "a product on {a}", "photo with {a}") if language == "en" else ("{}", "{}的商品图")
    else:
        frames = ("{}", "{a} product", "something {}") if language == "en" else ("{}", "{}的商品")
    return Phrase(_framed(random.choice(frames), name), _meaning(**{attribute: value}))


def _generic(random: Random, language: Language) -> Phrase:
    """What says nothing about the product: a window of a long text may hold nothing else."""
    texts = random.choice((GENERIC[language], FILLERS[language], PROSE[language], PROSE[language]))
    return Phrase(" ".join(random.sample(texts, random.randint(1, 2))), _meaning())


def _clean(random: Random, language: Language) -> Phrase:
    text = random.choice(CLEAN[language])
    if random.random() < 0.4:
        return Phrase(text, _meaning(fault="none"))
    kind, name = _named(random, language, "kind")
    joined = f"{_article(name)}, {text}" if language == "en" else f"{name}，{text}"
    return Phrase(joined, _meaning(kind=kind, fault="none"))


def _alien(random: Random, language: Language) -> Phrase:
    meaning = list(_meaning())
    meaning[0] = ALIEN
    thing = random.choice(ALIENS[language]) if random.random() < 0.8 else brand(random)
    if random.random() < 0.5:
        colour, shade = _named(random, language, "colour")
        thing = f"{shade} {thing}" if language == "en" else f"{shade}{thing}"
        meaning[1] = COLOURS.index(colour)
    return Phrase(_framed(random.choice(FRAMES[language]), thing), tuple(meaning))


def _partial(random: Random, language: Language) -> Phrase:
    """A caption of a scene that isn't drawn, whole."""
    scene = random_scene(random, held_out=None)
    text = caption(scene, random, language=language, split="train")
    return Phrase(text, tuple(said(text, scene, language)))
