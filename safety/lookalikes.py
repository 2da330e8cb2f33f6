"""Characters that are drawn, or named, like a Latin letter or a digit."""

from __future__ import annotations

import re
import unicodedata

# Chosen by eye from the scripts a keyboard or a font reaches: Cyrillic, Greek, Armenian, Hebrew, Georgian, Cherokee,
# Lisu, Coptic, Canadian syllabics, Deseret, Carian and Old Italic capitals, and a few signs. What NFKC folds by itself
# (fullwidth, mathematical, most circled letters) isn't here, nor what a Unicode name says (see `_NAMES`).
_DRAWN_LIKE = {
    "a": "АаӐӒαΑɑ⍺ᎪꓮᗅꭺΛ𐊠ДдⲀⲁаԱⱭ∀ߊ",
    "b": "ВвЬьЪъБбβΒᏴᏏꓐᗷƄƅϦႦⲂⲃꕗ𐊂𐊡𐌁Ҍҍꮟվ",
    "c": "СсҪҫϹϲᏟꓚⅭⅽⲤⲥ𐊢𐌂ꮯⲤ𐐕𐐽𐔛ʗ↻ᑕ⊂ƆϽ",
    "d": "ԀԁᎠꓓᗞᗪժ₫Ꮷᑯꭰδძ",
    "e": "ЕеЁёҼҽЄєΕεεΞᎬꓰⴹ℮⋿ℇϵЭэ∃𐊆ꭼꗋⲈⲉɘəƎ€∈Σ",
    "f": "ϜϝꓝᖴƑƒẝ℉Ғғꟻ𐊇𐊥𐔥ſ",
    "g": "ɡᎶꓖԌԍᏀցƃɢᏳꮐᏻǤɠ",
    "h": "НнҺһΗᎻꓧᕼհⲎⲏԋћђЂЋᏂꮋ𐋏ɦʜҢңӉӊηⱧЧчի",
    "i": "ІіЇїΙιιΪϊɩɪıꓲӀӏᎥⲒⲓ¡ᛁꙆꙇꭵ⍳ίiᏆɨƖⵏⵊ𐌉𐊊וןا",
    "j": "ЈјϳͿᎫꓙյȷᒍɈⅉꭻ",
    "k": "КкҚқҠҡκΚϰᏦꓗⲔⲕᛕƘƙĸҞҟԞЌќꮶ𐔘ҜҝКҟӃӄ",
    "l": "ⅬᏞꓡᒪⳐⳑ∟ʟℓլ𐐛𐑃ꮮ𐔦ǀ∣│┃⏽ן׀𐌠ӏℒŁ",
    "m": "МмΜϺᎷꓟⲘⲙᗰⅯⅿ𐊰𐌑ʍꮇᛖ₥♏ӍӎmՊՄ",
    "n": "ИиЍѝΝηԥПпꓠⲚⲛոռՈրℕռΠπ∩ɴҊЛлЙйղ𐔓ꓵ𑪾",
    "o": "ОоΟοσⲞⲟՕօꓳᎾ০०੦૦௦೦൦๐໐၀〇ⵔס๏ѲѳӨөΘθΦφØჿ⊙◯○●◎𐊒𐊫𐐄𐐬𐌏ߋ߀ه٥۵ഠဝంಂംංᴑᏫΌ☉⚪⚫⭕𐓂𐓪ዐଠჾ",
    "p": "РрΡρϱᏢꓑⲢⲣᑭƿÞþ⍴Ҏҏ𐊕𐔋ϷϸꮲᎵǷ₱",
    "q": "ԚԛգզႳԳՔⵕϘϙⵚ",
    "r": "гГΓᎡᏒꓣᖇЯяⲄⲅƦʀ𐒴𖼵ꮁꭱꮢѓЃɌҐґᴦႩꭇꭈ",
    "s": "ЅѕՏᏕᏚꓢ§ƨƧ𐊖𐐠𐑈ⴝႽჽꮪꮥടꕶƼƽՖ∫ʃϨϩ",
    "t": "ТтΤτᎢꓔ⊤⟙ⲦⲧТҬҭ𐊗𐊱𐌕†ՒէէᏖ߀ߠ丅ㄒꔋꭲƬƭ☨✝🝨+ҭ",
    "u": "ΥυսՍᑌꓴ∪⋃Ццμµʋሀ𐓎𐓶ʊᴗƱՄЏџꭒꭎꞟՄꓴΰ",
    "v": "ѴѵνᏙꓦⅤⅴᐯ∨⋁Ѷⴸ𝈍ט۷٧ꮩᴠ√ꓥⱱ",
    "w": "ԜԝωΩШшЩщѠѡաᎳᏔꓪɯꮃꮤⲰⲱϢϣѿ𐔂ⲽ₩ʬ",
    "x": "ХхΧχχⅩⅹꓫᕁᕽ᙭×╳✕✖⤫⤬⨯ⲬⲭҲҳ᙮ᚷ𐊐𐊴𐌗𐌢Ӽӽ𐔧Жж⵸ⵝ☓❌",
    "y": "УуҮүΥϒγγℽᎩᎽꓬⲨⲩүყʎ𐊲ʏЎў¥ҰұɣᏴՎӮӯƳƴỿ𐐏𖽃",
    "z": "ΖζᏃꓜꮓⱫⱬʐƵƶℤȤȥⲌⲍ𐋵ⴭՀʒⵣ",
    "2": "ƧϨᒿꙄꛯ",
    "3": "ЗзӠӡҘҙƷȜȝⳌⲜⳄⲝꝪɜɝꞫՅЭ३૩ӞӟᲕ",
    "4": "ᏎꮞЧч",
    "5": "Ƽ",
    "6": "ⳒⳓᏮꮾϬ",
    "7": "᜶𐓒ᒣ",
    "8": "Ȣȣ৪੪𐌚ଃ",
    "9": "৭੧୨൭ⳊⳋꝮꝯ",
}
_TABLE = {ord(char): target for target, chars in reversed(_DRAWN_LIKE.items()) for char in chars if not char.isascii()}

# Signs may be meant as letters (e∪ro) or as separators (手√枪): they are read both ways.
SIGNS = {code: target for code, target in _TABLE.items() if unicodedata.category(chr(code))[0] in "PS"}

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
# Letters and marks that show nothing: Hangul fillers, the Khmer inherent vowels, the grapheme joiner.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u17b4\u17b5\u034f")


class _Folding(dict[int, str | None]):
    """A table for `str.translate` that fills itself in: None removes, a text replaces."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = _fold(char) if code > 0x7F else char
        return self[code]


def _fold(char: str) -> str | None:
    code = ord(char)
    category = unicodedata.category(char)
    # Cf: zero-width, bidi and tag characters. Me: enclosing circles and keycaps.
    if category in {"Cf", "Me"} or char in _INVISIBLE or 0xE0000 <= code <= 0xE0FFF:
        return None
    if code in _TABLE and code not in SIGNS:
        return _TABLE[code]
    if code in _OUTLINED_LETTERS:
        return chr(ord("a") + code - _OUTLINED_LETTERS.start)
    if code in _OUTLINED_DIGITS:
        return str(code - _OUTLINED_DIGITS.start)
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    named = _NAMES.fullmatch(unicodedata.name(char, ""))
    return named[1].lower() if named else char


FOLDING = _Folding()
