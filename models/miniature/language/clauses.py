"""Captions put together from clauses in any order, with words around them that nobody could foresee.

Templates alone teach a text encoder a few hundred words and some dozen orders; it loses the thread at the first word
that it never met ("namely", or a brand). Here what a caption says stays what it says, and everything else about it is
left to chance: the order, the joints, unknown words, whole sentences about something else.
"""

from random import Random

from models.miniature.language.names import CLEAN, FILLERS, SHOTS, Language, Wording, with_article


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# "{}" is a name, "{a}" a name with its article. What leads a caption is never a bare background, position or colour:
# those are word orders of the split "test".
KIND_FRAMES: dict[Language, tuple[str, ...]] = {
    "en": (
        *("{}", "{}", "{a}", "{a}", "{a}", "the {}", "this {}", "one {}", "our {}", "here is {a}", "it is {a}"),
        *("shown is {a}", "subject: {}", "item: {}", "a very fine {}", "we sell {a}", "for sale is {a}"),
        *("take a look at {a}", "i want {a}", "draw {a}", "{} pictured", "the article is {a}", "type: {}"),
        *("{a} for everyone", "give me {a} please", "a good {}", "new {}", "best {} ever", "meet the {}"),
    ),
    "zh": (
        *("{}", "{}", "{}", "一件{}", "一个{}", "一款{}", "这是{}", "主体是{}", "商品：{}", "名称：{}", "展示{}"),
        *("我想要{}", "请画{}", "新款{}", "{}一件", "本店{}", "{}特写图", "就是{}"),
    ),
}
COLOUR_FRAMES: dict[Language, tuple[str, ...]] = {
    "en": (
        *(
            "{}",
            "in {}",
            "in {}",
            "colour: {}",
            "color {}",
            "it is {}",
            "its colour is {}",
            "comes in {}",
            "painted {}",
        ),
        *("{} in colour", "finished in {}", "the {} version", "in a {} shade", "which is {}", "make it {}"),
        *("{} all over", "dyed {}", "{} edition", "it has a {} tone", "{} as on the swatch", "of {} hue"),
    ),
    "zh": (*("{}", "{}的", "颜色：{}", "色彩为{}", "配色{}", "{}款", "呈{}", "{}外观", "通体{}", "选{}", "主色{}"),),
}
LOOK_FRAMES: dict[Language, tuple[str, ...]] = {
    "en": ("{}", "{}", "it is {}", "{} look", "{} style", "a {} one", "rather {}", "quite {} indeed"),
    "zh": ("{}", "{}", "{}款式", "外观{}", "做成{}", "采用{}"),
}
BACKGROUND_FRAMES: dict[Language, tuple[str, ...]] = {
    "en": (
        *("{on} {a}", "{on} {a}", "set {on} {a}", "with {a} behind it", "the backdrop is {a}", "scene: {}"),
        *("photographed {on} {a}", "{a} in the back", "shot {on} {a}", "the setting is {a}", "background: {}"),
    ),
    "zh": ("放在{}", "背景是{}", "场景：{}", "置于{}", "{}拍摄", "{}作背景", "以{}衬托"),
}
POSITION_FRAMES: dict[Language, tuple[str, ...]] = {
    "en": ("it sits {}", "it lies {}", "position: {}", "shown {}", "aligned {}", "you find it {}"),
    "zh": ("主体{}", "构图{}", "商品{}", "摆得{}", "它{}"),
}
FAULT_FRAMES: dict[Language, tuple[str, ...]] = {
    "en": ("with {a}", "with {a}", "plus {a}", "there is {a} too", "showing {a}", "and also {a}", "has {a}"),
    "zh": ("带{}", "带{}", "加上{}", "上面有{}", "还有{}", "附{}"),
}
JOINTS: dict[Language, tuple[str, ...]] = {
    "en": (", ", ", ", ", ", ", ", ". ", "; ", " - ", " / ", " ", " and ", ": ", " (", " | ", ",", "\n"),
    "zh": ("，", "，", "，", "，", "。", "；", "、", " ", "/", "：", "｜", ""),
}
# Words that say nothing here: they teach that unknown words can be passed over. None is part of a name, and none is
# a word of the split "test".
EMPTY_WORDS: dict[Language, tuple[str, ...]] = {
    "en": _words(
        """
        also always among amazing beautiful because best between both bring brought build built call came
        care carefully certainly chosen classic clearly come comfortable common could customer daily delivery design
        detail different does during each easily either elegant enough especially even every exactly example except
        extra family fast favourite feel few find first fits friend fully getting given goes going great
        half happy hard have heavy help high himself hope however ideal important including indeed inside instead
        into just keep kind know last later least less lets lightweight likely look made main make many maybe
        mind modern more most mostly much must near nearly need never newly next nice nothing number often once only
        order other others otherwise own part people perfect perhaps piece popular possible practical present pretty
        price probably proper provide quality quickly quiet quite rarely rather ready really reason recently
        reliable same seem seldom series several shall should simple simply since single slightly sometimes somewhat
        soon special standard start still store strong such sure surely take team than thank their them then there
        these they thing think those though through time today together tomorrow touch trendy truly try unique
        until upon useful usually value version very want warm weather week well were when where whether while whole
        whose will winner within without wonderful work world worth would year yesterday young your
        """
    ),
    "zh": _words(
        """
        以及 非常 我们 今天 推荐 适合 大家 可以 已经 因为 所以 如果 但是 而且 或者 比较 特别 一定 可能
        需要 希望 喜欢 使用 方便 舒适 经典 时尚 设计 品质 生活 每天 朋友 家庭 客户 价格 实惠 优惠 服务
        放心 购买 选择 系列 春季 秋季 现代 简约 优雅 轻便 耐用 实用 独特 完美 真实 自然 精美 全新 官方
        正品 店铺 评价 很好 不错 值得 拥有 享受 体验
        """
    ),
}
_LETTERS = ("bcdfghjklmnprstvz", "aeiou")


def brand(random: Random) -> str:
    """Make up a brand, with a model number at times."""
    name = "".join(random.choice(_LETTERS[at % 2]) for at in range(random.randint(3, 8)))
    return f"{name} {random.choice('ABKMRXZ')}{random.randint(2, 990)}" if random.random() < 0.4 else name


def empty_words(random: Random, language: Language, most: int) -> str:
    """One to `most` words that say nothing about the picture."""
    count = random.randint(1, most)
    words = [brand(random) if random.random() < 0.3 else random.choice(EMPTY_WORDS[language]) for _ in range(count)]
    return (" " if language == "en" else "").join(words)


def composed(words: Wording, random: Random, language: Language) -> str:
    """Say all of `words` in clauses, in any order."""
    named, apart = _shared_out(words, random)
    clauses = [_framed(KIND_FRAMES, _noun_phrase(named, words.kind, random, language), random, language)]
    clauses += [
        _framed(COLOUR_FRAMES if text == words.colour else LOOK_FRAMES, text, random, language) for text in apart
    ]
    if words.position:
        bare = random.random() < 0.4
        clauses.append(words.position if bare else _framed(POSITION_FRAMES, words.position, random, language))
    if words.background:
        bare = random.random() < 0.3
        framed = _framed(BACKGROUND_FRAMES, words.background, random, language, words.preposition)
        clauses.append(words.background if bare else framed)
    if words.fault:
        clauses.append(_framed(FAULT_FRAMES, words.fault, random, language))
    elif random.random() < 0.06:
        clauses.append(random.choice(CLEAN[language]))
    clauses += random.sample(FILLERS[language], random.choice((0, 0, 0, 1, 2)))
    if random.random() < 0.4:
        clauses.append(random.choice(SHOTS[language]))
    random.shuffle(clauses)
    if clauses[0] in (words.position, words.background, words.colour):
        clauses.append(clauses.pop(0))
    return _joined(clauses, random, language)


def _shared_out(words: Wording, random: Random) -> tuple[list[str], list[str]]:
    """Which looks stand at the kind's name, and which in clauses of their own."""
    named: list[str] = []
    apart: list[str] = []
    for text in (words.size, words.pattern, words.colour, words.material):
        if text:
            (named if random.random() < 0.5 else apart).append(text)
    if random.random() < 0.5:
        random.shuffle(named)
    return named, apart


def _noun_phrase(looks: list[str], kind: str, random: Random, language: Language) -> str:
    parts = [*looks, kind]
    if random.random() < 0.15:
        parts.insert(random.randrange(len(parts)), empty_words(random, language, 2))
    return (" " if language == "en" else "").join(parts)


def _framed(
    frames: dict[Language, tuple[str, ...]], text: str, random: Random, language: Language, on: str = ""
) -> str:
    return random.choice(frames[language]).format(text, a=with_article(text), on=on)


def _joined(clauses: list[str], random: Random, language: Language) -> str:
    """Join clauses, by one mark throughout or by any, with empty words here and there."""
    mark = random.choice(JOINTS[language])
    strict, chatty = random.random() < 0.5, random.random() < 0.45
    text = ""
    if chatty and random.random() < 0.4:
        text = empty_words(random, language, 4) + random.choice((" ", mark, ": ", ", "))
    for index, clause in enumerate(clauses):
        if index:
            text += mark if strict else random.choice(JOINTS[language])
            if chatty and random.random() < 0.35:
                text += empty_words(random, language, 3) + random.choice((" ", " ", ", "))
        text += clause
    if chatty and random.random() < 0.4:
        text += random.choice((" ", mark)) + empty_words(random, language, 4)
    return text


def empty_sentence(random: Random, language: Language) -> str:
    """Return a sentence of words that say nothing about the picture."""
    words = [empty_words(random, language, 1) for _ in range(random.randint(4, 14))]
    if language == "zh":
        return "".join(words) + "。"
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}."
