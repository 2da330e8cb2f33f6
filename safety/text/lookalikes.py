"""Characters that are drawn, or named, like a Latin letter or a digit."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from safety.text.traditional import simplified

# Chosen by eye, first from the scripts a keyboard or a font reaches: Cyrillic, Greek, Armenian, Hebrew, Georgian,
# Cherokee, Lisu, Coptic, Canadian syllabics, Deseret, Carian and Old Italic capitals, and signs. They come before
# what UTS #39 says (see `_confusables`), which draws tighter lines and has a digit for some: Ƨ is 2 to it, and S to
# people.
_DRAWN_LIKE = {
    "a": "АаӐӒαΑɑ⍺ᎪꓮᗅꭺΛ𐊠ДдⲀⲁаԱⱭ∀ꭤ\U0001df5a\U0001df6a",
    "b": "ВвЬьЪъБбβΒᏴᏏꓐᗷƄƅϦႦⲂⲃꕗ𐊂𐊡𐌁Ҍҍꮟվߕ𐌜𝈇\U00016eb6",
    "c": "СсҪҫϹϲᏟꓚⅭⅽⲤⲥ𐊢𐌂ꮯⲤ𐐕𐐽𐔛ʗ↻ᑕ⊂ƆϽ𝄴ၚ𑣩",
    "d": "ԀԁᎠꓓᗞᗪժ₫Ꮷᑯꭰδძ𐆋",
    "e": "ЕеЁёҼҽЄєΕεεΞᎬꓰⴹ℮⋿ℇϵЭэ∃𐊆ꭼꗋⲈⲉɘəƎ€∈Σ\U0001df81",
    "f": "ϜϝꓝᖴƑƒẝ℉Ғғꟻ𐊇𐊥𐔥ſߓ𐅾ʄ",
    "g": "ɡᎶꓖԌԍᏀցƃɢᏳꮐᏻǤɠ",
    "h": "НнҺһΗᎻꓧᕼհⲎⲏԋћђЂЋᏂꮋ𐋏ɦʜҢңӉӊⱧЧчիႹ",
    "i": "ІіЇїΙιιΪϊɩɪıꓲӀӏᎥⲒⲓ¡ᛁꙆꙇꭵ⍳ίiᏆɨƖⵏⵊ𐌉𐊊וןاւ",
    "j": "ЈјϳͿᎫꓙյȷᒍɈⅉꭻ",
    "k": "КкҚқҠҡκΚϰᏦꓗⲔⲕᛕƘƙĸҞҟԞЌќꮶ𐔘ҜҝКҟӃӄ",
    "l": "ⅬᏞꓡᒪⳐⳑ∟ʟℓլ𐐛𐑃ꮮ𐔦ǀ∣│┃⏽ן׀𐌠ӏℒŁߊꟾᛐ꠰𐤦𐔎𐰾।꣎꩝𑁇𑃀𑅁𑇅𑑋𑙁𑱁𑗅↿𝄀𐳺𝍷𞣇𞴁𐲥ꕯ\U000113d4\U00011de1\U00011dda\U00016eaa\U00016d63",
    "m": "МмΜϺᎷꓟⲘⲙᗰⅯⅿ𐊰𐌑ʍꮇᛖ₥♏ӍӎmՊՄՠ𐰡𑣣",
    "n": "ИиЍѝΝηԥПпꓠⲚⲛոռՈրℕռΠπ∩ɴҊЛлЙйղ𐔓ꓵ𑪾",
    "o": "ОоΟοσⲞⲟՕօꓳᎾ০०੦૦௦೦൦๐໐၀〇ⵔס๏ѲѳӨөΘθΦφØჿ⊙◯○●◎𐊒𐊫𐐄𐐬𐌏ߋ߀ه٥۵ഠဝంಂംංᴑᏫΌ☉⚪⚫⭕𐓂𐓪ዐଠჾھہەϭࡀ𐤬𐰗𖫩𐴇𐔖𑄤ᩅㅇﾷ\U00011de0𑌂ᯪ",
    "p": "РрΡρϱᏢꓑⲢⲣᑭƿÞþ⍴Ҏҏ𐊕𐔋ϷϸꮲᎵǷ₱Ⳏⳏ",
    "q": "ԚԛգզႳԳՔⵕϘϙⵚ",
    "r": "гГΓᎡᏒꓣᖇЯяⲄⲅƦʀ𐒴𖼵ꮁꭱꮢѓЃɌҐґᴦႩꭇꭈ𖨙",
    "s": "ЅѕՏᏕᏚꓢ§ƨƧ𐊖𐐠𐑈ⴝႽჽꮪꮥടꕶƼƽՖ∫ʃϨϩ𖫖",
    "t": "ТтΤτᎢꓔ⊤⟙ⲦⲧТҬҭ𐊗𐊱𐌕†ՒէէᏖ߀ߠ丅ㄒꔋꭲƬƭ☨✝🝨+ҭ𝍳",
    "u": "υսՍᑌꓴ∪⋃Ццμµʋሀ𐓎𐓶ʊᴗƱՄЏџꭒꭎꞟՄꓴΰ",
    "v": "ѴѵνᏙꓦⅤⅴᐯ∨⋁Ѷⴸ𝈍ט۷٧ꮩᴠ√ꓥⱱ𐰟\U0001cefc𞅅",
    "w": "ԜԝωΩШшЩщѠѡաᎳᏔꓪɯꮃꮤⲰⲱϢϣѿ𐔂ⲽ₩ʬꟺ⧢𝈌\U0001df7d𑣦",
    "x": "ХхΧχχⅩⅹꓫᕁᕽ᙭×╳✕✖⤫⤬⨯ⲬⲭҲҳ᙮ᚷ𐊐𐊴𐌗𐌢Ӽӽ𐔧Жж⵸ⵝ☓❌ᝣ𐳂𐲂𐰓𐳼ᳵᯬ",
    "y": "ᶌУуҮүΥϒγγℽᎩᎽꓬⲨⲩүყʎ𐊲ʏЎў¥ҰұɣᏴՎӮӯƳƴỿ𐐏𖽃ߌ𐰠ㄚ𑣄",
    "z": "ΖζᏃꓜꮓⱫⱬʐƵƶℤȤȥⲌⲍ𐋵ⴭՀʒⵣ𑪼ꛉ𐔇𑣥",
    "2": "ƧϨᒿꙄꛯႧჇᘖ",
    "3": "ЗзӠӡҘҙƷȜȝⳌⲜⳄⲝꝪɜɝꞫՅЭ३૩ӞӟᲕᜂ",
    "4": "ᏎꮞЧч",
    "5": "Ƽ",
    "6": "ⳒⳓᏮꮾϬ",
    "7": "᜶𐓒ᒣ",
    "8": "Ȣȣ৪੪𐌚ଃꖉ",
    "9": "৭੧୨൭ⳊⳋꝮꝯ",
}
_TWO = {
    "æ": "ae",
    "Æ": "ae",
    "ӕ": "ae",
    "Ӕ": "ae",
    "œ": "oe",
    "Œ": "oe",
    "Ю": "io",
    "ю": "io",
    "ﬅ": "st",
    "ﬆ": "st",
    "˛": "i",
    "ͺ": "i",
}
_TABLE = {ord(char): target for target, chars in reversed(_DRAWN_LIKE.items()) for char in chars if not char.isascii()}
_TABLE |= {ord(char): target for char, target in _TWO.items()}

# Characters whose Unicode name says which letter they are: "LATIN SMALL LETTER H WITH STROKE", "LATIN LETTER SMALL
# CAPITAL G", "NEGATIVE SQUARED LATIN CAPITAL LETTER P", "REGIONAL INDICATOR SYMBOL LETTER N".
_NAMES = re.compile(
    r"(?:LATIN (?:SMALL |CAPITAL |EPIGRAPHIC )?LETTER "
    r"(?:(?:SMALL CAPITAL|REVERSED|INVERTED|TURNED|SIDEWAYS|DOTLESS|LONG|OPEN|CLOSED|BLACKLETTER|SCRIPT|INSULAR|STIRRUP"
    r"|TAILLESS|LENIS|BROKEN|BARRED|VOLAPUK|(?:BOTTOM |TOP )?HALF) )*"
    r"|(?:CROSSED )?(?:NEGATIVE )?(?:CIRCLED|SQUARED|PARENTHESIZED) LATIN (?:CAPITAL|SMALL) LETTER "
    r"|REGIONAL INDICATOR SYMBOL LETTER |MODIFIER LETTER (?:SMALL|CAPITAL) |COMBINING LATIN SMALL LETTER )"
    r"([A-Z])(?: WITH .*| ROTUNDA)?"
)
_OUTLINED_LETTERS = range(0x1CCD6, 0x1CCF0)  # Unicode 16, which Python 3.11 has no names for
_OUTLINED_DIGITS = range(0x1CCF0, 0x1CCFA)
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Letters and marks that show nothing: Hangul fillers, the Khmer inherent vowels, the grapheme joiner, variation
# selectors.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u17b4\u17b5\u034f\u180b\u180c\u180d\u180f")
_INVISIBLE |= {chr(code) for code in range(0xFE00, 0xFE10)}
# Arabic and Hebrew are read without their vowel signs, and Arabic words may be drawn out with a tatweel.
_UNREAD = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4"
    "\u06e7\u06e8\u06ea-\u06ed]"
)
# Scripts whose letters UTS #39 likens to Latin ones by their outline alone, but which make up words of their own that
# are read letter by letter: Hangul's parts, and scripts without spaces.
_OWN = re.compile(
    "[\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc]"
)


class _Folding(dict[int, str | None]):
    """A table for `str.translate` that fills itself in: None removes, a text replaces."""

    def __missing__(self, code: int) -> str | None:
        self[code] = _fold(chr(code))
        return self[code]


def _fold(char: str) -> str | None:
    code = ord(char)
    category = unicodedata.category(char)
    # Cf: zero-width, bidi and tag characters. Me: enclosing circles and keycaps. Cs: halves of a character.
    if category in {"Cf", "Me", "Cs"} or char in _INVISIBLE or 0xE0000 <= code <= 0xE0FFF:
        return None
    if category == "Cc":
        return char if char.isspace() else None
    if code < 0x80:
        return char
    if _UNREAD.match(char):
        return None
    sign = category[0] in "PS"
    if code in _TABLE and (not sign or char in _TWO):
        return _TABLE[code]
    if code in _OUTLINED_LETTERS:
        return chr(ord("a") + code - _OUTLINED_LETTERS.start)
    if code in _OUTLINED_DIGITS:
        return str(code - _OUTLINED_DIGITS.start)
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    named = _NAMES.fullmatch(unicodedata.name(char, ""))
    if named:
        return named[1].lower()
    plain = unicodedata.normalize("NFKC", char)
    if plain.isascii():
        return plain
    if _HAN.match(char):
        return simplified().get(code, char)
    return char if sign or _OWN.match(char) else _confusables().get(char, char)


class _Signs(dict[int, str | None]):
    """Signs as the letters that they may be meant as: e∪ro."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        sign = code >= 0x80 and unicodedata.category(char)[0] in "PS"
        self[code] = (_TABLE.get(code) or _confusables().get(char, char)) if sign else char
        return self[code]


@cache
def _confusables() -> dict[str, str]:
    """Return what UTS #39 likens to Latin letters and digits, in the edition that confusable_homoglyphs has (15.1)."""
    from confusable_homoglyphs.confusables import confusables_data  # reads a megabyte, and most texts need none of it

    found = {}
    for char, likes in confusables_data.items():
        if len(char) == 1:
            latin = [like["c"] for like in likes if like["c"].isascii() and like["c"].isalnum()]
            if latin:
                found[char] = latin[0].lower()
    return found


FOLDING = _Folding()
SIGNS = _Signs()  # they may be separators, too (手√枪), so that they are read both ways
