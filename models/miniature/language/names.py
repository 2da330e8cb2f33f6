"""What things are called, in English and Chinese, and the words that shops put around them.

Everything that a caption says of a scene is one of the names here.
"""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
Names = dict[str, dict[Language, tuple[str, ...]]]


def _names(table: dict[str, tuple[str, str]]) -> Names:
    """Read a table of "english | synonyms", "中文 | 同义词"."""
    return {key: {"en": _split(english), "zh": _split(chinese)} for key, (english, chinese) in table.items()}


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split("|"))


KIND_NAMES: Names = _names(
    {
        "mug": ("mug | coffee mug | cup | tea mug | coffee cup", "马克杯 | 杯子 | 咖啡杯 | 水杯"),
        "bottle": ("bottle | glass bottle | drink bottle | water bottle", "瓶子 | 玻璃瓶 | 饮料瓶"),
        "t-shirt": ("t-shirt | tee | tee shirt | tshirt | short-sleeved shirt", "T恤 | 短袖 | 短袖T恤 | T恤衫"),
        "sneaker": ("sneaker | running shoe | trainer | sports shoe | gym shoe", "运动鞋 | 跑鞋 | 球鞋 | 休闲鞋"),
        "handbag": ("handbag | purse | ladies' bag | hand bag | satchel bag", "手提包 | 女包 | 手袋 | 拎包"),
        "lamp": ("lamp | table lamp | bedside lamp | desk light | lampshade light", "台灯 | 床头灯 | 灯 | 灯具"),
        "chair": ("chair | dining chair | seat | side chair | kitchen chair", "椅子 | 餐椅 | 靠背椅"),
        "watch": ("watch | wristwatch | timepiece | analogue watch | wrist watch", "手表 | 腕表 | 石英表"),
        "cap": ("cap | baseball cap | peaked cap | sports cap | hat", "棒球帽 | 鸭舌帽 | 帽子 | 遮阳帽"),
        "book": ("book | hardcover book | novel | hardback | notebook", "书 | 书本 | 精装书 | 图书"),
        "phone": ("phone | smartphone | mobile phone | cell phone | handset", "手机 | 智能手机 | 移动电话"),
        "backpack": ("backpack | rucksack | school bag | daypack | knapsack", "双肩包 | 背包 | 书包"),
        "vase": ("vase | flower vase | decorative vase | urn vase", "花瓶 | 花器 | 装饰花瓶"),
        "umbrella": ("umbrella | rain umbrella | parasol | brolly", "雨伞 | 伞 | 遮阳伞"),
        "kitchen knife": (
            "kitchen knife | chef's knife | cook's knife | vegetable knife | carving knife",
            "菜刀 | 厨刀 | 厨师刀 | 水果刀",
        ),
        "teapot": ("teapot | tea pot | tea kettle | tea jug", "茶壶 | 泡茶壶 | 壶"),
        "dress": ("dress | summer dress | frock | gown | sundress", "连衣裙 | 裙子 | 长裙"),
        "trousers": ("trousers | pants | slacks | chinos | jeans", "裤子 | 长裤 | 休闲裤"),
        "sofa": ("sofa | couch | settee | two-seater | loveseat", "沙发 | 双人沙发 | 布艺沙发"),
        "table": ("table | dining table | four-legged table | kitchen table", "桌子 | 餐桌 | 方桌"),
        "headphones": ("headphones | headset | over-ear headphones | earphones", "耳机 | 头戴式耳机 | 头戴耳机"),
        "sunglasses": ("sunglasses | shades | sunnies | dark glasses", "太阳镜 | 墨镜 | 太阳眼镜"),
        "candle": ("candle | pillar candle | scented candle | wax candle", "蜡烛 | 香薰蜡烛 | 柱形蜡烛"),
        "cushion": ("cushion | throw pillow | pillow | sofa cushion", "抱枕 | 靠垫 | 枕头"),
        "suitcase": ("suitcase | trolley case | cabin luggage | travel case | carry-on", "行李箱 | 拉杆箱 | 旅行箱"),
        "bowl": ("bowl | soup bowl | salad bowl | serving bowl", "碗 | 汤碗 | 沙拉碗"),
        "clock": ("clock | alarm clock | bedside clock | twin-bell clock", "闹钟 | 时钟 | 钟"),
        "boot": ("boot | ankle boot | winter boot | hiking boot", "靴子 | 短靴 | 马丁靴"),
        "scarf": ("scarf | winter scarf | knitted scarf | muffler", "围巾 | 针织围巾 | 围脖"),
        "ball": ("ball | beach ball | toy ball | play ball", "球 | 沙滩球 | 玩具球 | 皮球"),
        "hair dryer": ("hair dryer | hairdryer | blow dryer | hair drier", "吹风机 | 电吹风 | 风筒"),
        "pen": ("pen | ballpoint pen | fountain pen | biro", "钢笔 | 圆珠笔 | 签字笔"),
        "potted plant": ("potted plant | plant pot | house plant | cactus in a pot", "盆栽 | 绿植盆栽 | 盆栽植物"),
        "toy car": ("toy car | model car | little car | die-cast car", "玩具车 | 小汽车 | 模型车"),
        "camera": ("camera | photo camera | compact camera | digital camera", "相机 | 照相机 | 数码相机"),
        "guitar": ("guitar | acoustic guitar | six-string guitar | folk guitar", "吉他 | 木吉他 | 民谣吉他"),
        "handgun": (
            "handgun | pistol | gun | sidearm | six-shooter | semi-automatic | 9mm | firearm",
            "手枪 | 短枪 | 枪 | 配枪 | 手铳",
        ),
        "rifle": (
            "rifle | assault rifle | carbine | long gun | assault weapon | machine gun",
            "步枪 | 突击步枪 | 长枪 | 卡宾枪 | 自动步枪",
        ),
        "combat knife": (
            "combat knife | dagger | tactical blade | army knife | fighting knife | bowie",
            "军刀 | 匕首 | 战术刀 | 格斗刀 | 短剑",
        ),
        "cigarette": (
            "cigarette | lit cigarette | smoke | ciggy | burning cigarette | tobacco stick",
            "香烟 | 烟卷 | 点燃的香烟 | 烟草 | 纸烟",
        ),
        "syringe": ("syringe | hypodermic | injection needle | hypodermic needle", "注射器 | 针筒 | 针管 | 皮下注射针"),
        "hand grenade": ("hand grenade | grenade | pineapple bomb | frag | hand bomb", "手榴弹 | 手雷 | 掷弹 | 破片弹"),
        "cannabis leaf": (
            "cannabis leaf | marijuana leaf | weed leaf | hemp leaf | ganja leaf | pot leaf",
            "大麻叶 | 大麻 | 麻叶 | 火麻叶",
        ),
    }
)
PLURAL = frozenset(name for kind in ("trousers", "headphones", "sunglasses") for name in KIND_NAMES[kind]["en"])

COLOUR_NAMES: Names = _names(
    {
        "red": ("red | crimson | scarlet | bright red | cherry red", "红色 | 大红色 | 深红色 | 红"),
        "orange": ("orange | tangerine | bright orange | pumpkin orange", "橙色 | 橘色 | 橘红色"),
        "yellow": ("yellow | lemon yellow | canary yellow | sunny yellow", "黄色 | 柠檬黄 | 明黄色"),
        "green": ("green | emerald | grass green | forest green", "绿色 | 翠绿色 | 墨绿色"),
        "teal": ("teal | turquoise | cyan | blue-green", "青色 | 蓝绿色 | 青绿色"),
        "blue": ("blue | deep blue | navy | cobalt blue | royal blue", "蓝色 | 深蓝色 | 宝蓝色 | 蓝"),
        "purple": ("purple | violet | deep purple | plum", "紫色 | 深紫色 | 紫罗兰色"),
        "pink": ("pink | rose pink | hot pink | bubblegum pink", "粉色 | 粉红色 | 玫粉色"),
        "brown": ("brown | chocolate brown | coffee brown | chestnut", "棕色 | 咖啡色 | 褐色"),
        "black": ("black | jet black | ebony | all-black", "黑色 | 纯黑色 | 黑"),
        "white": ("white | snow white | ivory white | off-white", "白色 | 米白色 | 雪白色"),
        "grey": ("grey | gray | slate grey | charcoal gray | stone grey", "灰色 | 深灰色 | 石墨灰"),
    }
)
MATERIAL_NAMES: Names = _names(
    {
        "plain": ("matte | smooth | satin-finish", "哑光 | 磨砂 | 素面"),
        "glossy": ("glossy | shiny | polished | glazed", "亮面 | 光面 | 釉面"),
        "metal": ("metal | metallic | brushed metal | steel", "金属 | 不锈钢 | 拉丝金属"),
        "wood": ("wooden | wood | solid wood | oak", "木质 | 实木 | 木制"),
        "fabric": ("fabric | cloth | cotton | woven | textile", "布料 | 棉质 | 织物"),
        "leather": ("leather | genuine leather | faux leather", "皮革 | 真皮 | 皮质"),
    }
)
PATTERN_NAMES: Names = _names(
    {
        "plain": ("plain | solid-colour | solid-color | unpatterned", "纯色 | 素色 | 无图案"),
        "stripes": ("striped | stripy | pinstriped", "条纹 | 竖纹 | 斑马纹"),
        "dots": ("polka-dot | dotted | spotted", "波点 | 圆点 | 斑点"),
        "checks": ("checked | checkered | plaid | chequered", "格子 | 格纹 | 方格"),
    }
)
BACKGROUND_NAMES: Names = _names(
    {
        "white": (
            "white background | pure white background | plain white backdrop | white studio background | plain white",
            "白色背景 | 纯白背景 | 白底 | 白背景",
        ),
        "grey": (
            "light grey background | pale gray backdrop | neutral grey background | soft gray background",
            "浅灰色背景 | 灰色背景 | 灰底",
        ),
        "blue": (
            "light blue background | pale blue backdrop | pastel blue background",
            "浅蓝色背景 | 淡蓝背景 | 蓝色背景",
        ),
        "pink": (
            "light pink background | pale pink backdrop | pastel pink background",
            "浅粉色背景 | 淡粉背景 | 粉色背景",
        ),
        "green": (
            "light green background | pale green backdrop | pastel green background | mint background",
            "浅绿色背景 | 淡绿背景 | 绿色背景",
        ),
        "beige": ("beige background | cream backdrop | sand-coloured background", "米色背景 | 浅米色背景 | 杏色背景"),
        "table": (
            "wooden tabletop | oak table top | wooden desktop surface | wooden worktop",
            "木桌面 | 木质桌面 | 实木台面",
        ),
        "room": (
            "living room | room with a wooden floor | home interior | room with a pale wall and a floor",
            "客厅 | 室内墙面和地板 | 居家环境",
        ),
        "shelf": ("shelf | wall shelf | wooden shelf | display shelf", "置物架 | 木架子 | 展示架"),
        "grass": (
            "lawn | green grass under a blue sky | meadow | garden lawn with sky",
            "草地 | 草坪和蓝天 | 户外草地",
        ),
    }
)
SIZE_NAMES: Names = _names(
    {
        "small": ("small | little | tiny | mini", "小号 | 小型 | 小巧的 | 迷你"),
        "medium": ("medium-sized | mid-size | regular-size | medium", "中号 | 中型 | 中等大小的"),
        "large": ("large | big | oversized | close-up", "大号 | 大型 | 大尺寸 | 特写的"),
    }
)
POSITION_NAMES: Names = _names(
    {
        "left": ("on the left | on the left side | placed left of centre | to the left", "居左 | 位于左侧 | 画面左边"),
        "centre": ("centred | centered | in the middle | in the centre of the frame", "居中 | 位于中央 | 画面中间"),
        "right": (
            "on the right | on the right side | placed right of center | to the right",
            "居右 | 位于右侧 | 画面右边",
        ),
    }
)
FAULT_NAMES: Names = _names(
    {
        "banner": (
            "sale banner | promotional banner | discount banner | banner with advertising text",
            "促销横幅 | 打折横幅 | 广告文字横幅",
        ),
        "watermark": ("watermark | repeated watermark | stock-photo watermark", "水印 | 满屏水印 | 图库水印"),
        "border": (
            "{colour} border | thick {colour} frame | coloured border | {colour} border all around",
            "{colour}边框 | 彩色边框 | {colour}粗边框",
        ),
    }
)
SHOTS: dict[Language, tuple[str, ...]] = {
    "en": (
        *("photo", "product photo", "studio photo", "catalogue picture", "catalog image", "image", "product shot"),
        *("picture", "packshot", "advert picture", "e-commerce photo", "photograph"),
    ),
    "zh": ("产品摄影", "商品图", "电商主图", "照片", "棚拍图", "产品图", "静物摄影", "商品照片"),
}
FILLERS: dict[Language, tuple[str, ...]] = {
    "en": (
        *("studio photo", "soft light", "high detail", "8k", "bestseller", "for home and office", "hand-made"),
        *("new season", "sharp focus", "professional product photography", "ultra realistic", "clean composition"),
        *("free shipping", "top quality", "gift idea", "in stock", "limited edition", "everyday essential"),
        *("minimalist", "4k, high resolution", "commercial photography", "soft shadows", "even lighting", "for men"),
        *("for women", "for kids", "2024 collection", "premium", "eco-friendly", "model no. 7"),
    ),
    "zh": (
        *("高清", "柔光", "电商主图", "产品摄影", "细节丰富", "8K", "热销", "家用办公", "手工制作", "新款", "专业布光"),
        *(
            "极简风格",
            "商业摄影",
            "现货",
            "包邮",
            "高品质",
            "送礼佳品",
            "限量版",
            "日常必备",
            "清晰对焦",
            "环保",
            "超高清",
        ),
    ),
}
PROSE: dict[Language, tuple[str, ...]] = {
    "en": (
        "The picture is meant for the front page of an online shop.",
        "Soft, even light from a large softbox keeps the shadows gentle and the edges crisp.",
        "Nothing else is in the frame, so that the eye goes straight to the article.",
        "It should look like a page from a printed catalogue: clean, calm and true to life.",
        "Customers like it because it lasts for years and is easy to look after.",
        "Please keep the proportions natural and leave some room around the object.",
        "Shot with a long lens at eye level, everything in focus from front to back.",
        "A gentle contact shadow shows where the article stands.",
        "Delivery takes two to three working days, and returns are free within a month.",
        "The surface is shown honestly, without retouching, so that buyers know what they get.",
        "It makes a fine present for a birthday, a wedding or a new home.",
        "High resolution, accurate tones, no people, no hands, no clutter.",
        "Our designers worked on this article for two seasons before it went on sale.",
    ),
    "zh": (
        "这张图片用于网店首页展示。",
        "光线柔和均匀，阴影自然，边缘清晰。",
        "画面中没有其他物品，主体突出。",
        "整体风格干净简洁，像印刷目录中的一页。",
        "做工精细，经久耐用，深受顾客喜爱。",
        "请保持比例自然，并在周围留出空间。",
        "高分辨率，色彩准确，没有人物，没有杂物。",
        "两到三天送达，一个月内免费退货。",
        "适合作为生日或乔迁礼物。",
        "镜头平视拍摄，前后景都清晰。",
    ),
}
CLEAN: dict[Language, tuple[str, ...]] = {
    "en": (
        "no watermark",
        "without a watermark",
        "no text, no watermark",
        "no banner",
        "without a sale banner",
        "no border",
        "without a border",
        "no logo, no watermark, no border",
        "a clean product photo without text",
        "an unmarked photo",
    ),
    "zh": ("无水印", "没有水印", "无边框", "没有横幅", "无水印无边框", "干净的商品图，没有文字"),
}
ANYTHING: dict[Language, tuple[str, ...]] = {"en": ("product", "article", "item"), "zh": ("商品", "产品", "物品")}


@dataclass(frozen=True)
class Wording:
    """The words chosen for one scene; an empty text where an attribute stays unnamed."""

    kind: str
    colour: str
    material: str
    pattern: str
    background: str
    size: str
    position: str
    fault: str
    preposition: str


def with_article(phrase: str) -> str:
    """Put an English article before a phrase."""
    if any(phrase.endswith(name) for name in PLURAL):
        return f"a pair of {phrase}"
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"
