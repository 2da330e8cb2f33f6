"""Plain titles of things that a general shop sells, put together at random from a seed.

Among them are those that name something harmless with a word that a list might stop: a glue gun, a shot glass.
"""

from __future__ import annotations

from random import Random

_ENGLISH = """
mug | travel mug | shot glass set | water bottle | wine glass | champagne flutes | beer stein | teapot
coffee grinder | espresso cups | French press | kettle | toaster | blender | food processor | stand mixer
rolling pin | cake tin | baking tray | mixing bowl | salad bowl | cutting board | kitchen knife | chef's knife
bread knife | knife block | steak knives | butter knife | peeler | grater | colander | frying pan | wok | saucepan
casserole dish | roasting tin | spatula | ladle | whisk | tongs | can opener | corkscrew | cocktail shaker
ice bucket | lunch box | thermos flask | t-shirt | polo shirt | blouse | hoodie | cardigan | bomber jacket
rain coat | trench coat | denim jacket | parka | dress | maxi dress | cocktail dress | pencil skirt | pleated skirt
cigarette pants | cargo trousers | chinos | jeans | leggings | pyjama set | dressing gown | smoking jacket | bikini
swimsuit | swimming trunks | sports bra | nursing bra | boxer shorts | socks | tights | stockings | nude heels
sneakers | running shoes | hiking boots | ankle boots | sandals | flip flops | loafers | ballet flats | slippers
wellington boots | belt | scarf | gloves | beanie | baseball cap | fedora | handbag | tote bag | backpack | suitcase
weekender | wallet | card holder | bum bag | laptop sleeve | umbrella | bow tie | wristwatch | necklace | pendant
hoop earrings | bracelet | signet ring | brooch | cufflinks | sunglasses | reading glasses | sofa | armchair
rocking chair | bar stool | bunk bed | mattress topper | bedside table | chest of drawers | wardrobe | bookcase
coffee table | dining table | desk | office chair | filing cabinet | coat rack | shoe rack | shower curtain
table lamp | floor lamp | ceiling light | fairy lights | lampshade | candle | candle holder | candle snuffer | vase
picture frame | mirror | wall clock | rug | doormat | cushion | throw blanket | curtains | bed linen | towel set
bath mat | soap dispenser | toothbrush holder | toilet brush | laundry basket | ironing board | clothes airer
bath bomb | face cream | hand cream | lip balm | nail polish | nail scissors | hair dryer | curling iron
electric razor | breast pump | baby bottle | pushchair | baby carrier | high chair | cot mobile | teddy bear
building blocks | jigsaw puzzle | board game | toy gun | water gun | bubble gun | toy car | train set | doll's house
kite | skipping rope | football | basketball | tennis racket | golf balls | yoga mat | dumbbells | kettlebell
resistance band | rowing machine | bicycle | bike helmet | bike pump | ski goggles | ice skates | skateboard
fishing rod | sleeping bag | tent | camping stove | head torch | penknife | compass | glue gun | heat gun | nail gun
staple gun | caulking gun | massage gun | cordless drill | hammer | screwdriver set | spanner | pliers
tape measure | spirit level | ladder | paint brush | paint roller | wood stain | wire stripper | pipe nipple
garden hose | watering can | secateurs | hedge trimmer | lawn mower | weed killer | rapeseed oil | flower pot
bird feeder | dog bed | dog lead | cat litter | scratching post | fish tank | hamster cage | horse blanket
notebook | fountain pen | bullet journal | pencil case | stapler | hole punch | desk organiser | calendar
greeting card | wrapping paper | scissors | phone case | screen protector | charger | power bank | headphones
ear buds | Bluetooth speaker | webcam | keyboard | mouse | monitor stand | laptop | tablet | e-book reader
printer paper | memory card | camera bag | tripod | drone | projector | guitar | violin bow | piano stool
drum sticks | microphone stand | record player | magnum of wine | grape juice | sex: unisex | analog clock
classic car model | cocktail sticks | assorted nuts | Essex honey | butt hinge | bass guitar strings | grass mat
glass cleaner | compass rose rug | assembly kit | hello sign | shell lamp | cumin | document
"""
_QUALITIES = """
red | blue | navy | teal | green | olive | yellow | mustard | orange | pink | purple | brown | tan | beige | cream
white | black | charcoal | grey | silver | gold | rose gold | gunmetal | copper | nude | ivory white | striped
checked | floral | polka dot | leopard print | vintage | modern | classic | handmade | personalised | organic
recycled | vegan | waterproof | foldable | stackable | adjustable | wireless | rechargeable | portable | large
small | mini | XL | kids' | men's | women's
"""
_MATERIALS = """
cotton | linen | wool | cashmere | silk | velvet | leather | suede | denim | canvas | nylon | polyester | oak
walnut | pine | bamboo | rattan | stainless steel | cast iron | brass | aluminium | ceramic | porcelain | stoneware
glass | crystal | marble | concrete | silicone | rubber | plastic | paper | cork | acrylic | resin
"""
_EXTRAS = """
500 ml | 1.5 L | 30 cm | 12" | 2-pack | set of 6 | with lid | with gift box | size M | size 38 | UK 9 | A5 | 20 W
5 V / 2 A | 250 g | 3-in-1 | 100% cotton | BPA free | dishwasher safe | machine washable | for him | for her
new in | model K-204 | item no. 70-1155 | SKU AB1204X | EAN 4006381333931 | made in Portugal | fits 15" laptops | 4K
USB-C | 6 ft | 2.0 | & stand
"""
_CHINESE = """
马克杯 | 保温杯 | 玻璃杯 | 茶壶 | 电水壶 | 菜刀 | 水果刀 | 砧板 | 平底锅 | 饭盒 | 开瓶器 | 连衣裙 | 半身裙 | 衬衫
羽绒服 | 牛仔裤 | 运动裤 | 泳衣 | 文胸 | 睡衣 | 袜子 | 高跟鞋 | 运动鞋 | 雨靴 | 手提包 | 双肩包 | 行李箱 | 钱包
皮带 | 围巾 | 手套 | 棒球帽 | 太阳镜 | 手表 | 项链 | 沙发 | 餐桌 | 书架 | 床垫 | 台灯 | 吊灯 | 蜡烛 | 花瓶 | 相框
挂钟 | 地毯 | 窗帘 | 抱枕 | 毛巾 | 浴帘 | 吹风机 | 剃须刀 | 吸奶器 | 奶瓶 | 婴儿车 | 积木 | 拼图 | 水枪 | 泡泡枪
玩具车 | 足球 | 瑜伽垫 | 哑铃 | 自行车 | 头盔 | 帐篷 | 鱼竿 | 热熔胶枪 | 筋膜枪 | 螺丝刀 | 卷尺 | 水管 | 花盆 | 狗窝
猫砂 | 笔记本 | 钢笔 | 剪刀 | 手机壳 | 充电宝 | 耳机 | 音箱 | 键盘 | 鼠标 | 相机包 | 吉他 | 口琴 | 消毒湿巾
驱蚊喷雾
"""
_CHINESE_QUALITIES = """
红色 | 蓝色 | 黑色 | 白色 | 米色 | 枪灰色 | 裸色 | 复古 | 简约 | 北欧风 | 儿童 | 男士 | 女士 | 大号 | 便携 | 防水
纯棉 | 真皮 | 不锈钢 | 陶瓷
"""


def titles(random: Random, number: int) -> list[str]:
    """So many titles, one in four of them Chinese."""
    return [_chinese(random) if at % 4 == 3 else _english(random) for at in range(number)]


def _english(random: Random) -> str:
    noun, quality, material, extra = map(random.choice, (_NOUNS, _WORDS, _STUFF, _MORE))
    title = random.choice(
        [
            f"{quality} {noun}",
            f"{quality} {material} {noun}",
            f"{material} {noun}, {quality}",
            f"{noun} - {material} - {quality} - {extra}",
            f"{noun} {extra} ({quality})",
            f"{quality} {noun} {extra}, {material}",
            f"a {quality} {noun} on a white background, studio photo",
        ]
    )
    return random.choice([str, str.title, str.upper])(title)


def _chinese(random: Random) -> str:
    noun, quality, other = random.choice(_ARTICLES), *random.sample(_KINDS, 2)
    return random.choice([f"{quality}{noun}", f"{quality}{other}{noun}，白底", f"{noun} {quality} {other} 包邮"])


def _split(table: str) -> list[str]:
    return [text.strip() for line in table.strip().splitlines() for text in line.split("|")]


_NOUNS, _WORDS, _STUFF, _MORE = map(_split, (_ENGLISH, _QUALITIES, _MATERIALS, _EXTRAS))
_ARTICLES, _KINDS = _split(_CHINESE), _split(_CHINESE_QUALITIES)
