"""What a file is that isn't one of the pictures that are read, told by how it begins."""

from __future__ import annotations

import re

BEGINNINGS = {
    b"II+\0": "a BigTIFF: save it as an ordinary TIFF",
    b"MM\0+": "a BigTIFF: save it as an ordinary TIFF",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"8BPS": "a Photoshop file",
    b"gimp xcf": "a GIMP file",
    b"\0\0\1\0": "an icon (ICO)",
    b"icns": "an icon (ICNS)",
    b"DDS ": "a texture (DDS)",
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"FUJIFILMCCD-RAW": "a camera's raw file",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"\xc5\xd0\xd3\xc6": "an EPS document",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ\0": "compressed by xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: unpack it",
    b"PK\3\4": "a ZIP archive, or an office document",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1a\x45\xdf\xa3": "a video (Matroska or WebM)",
    b"FLV": "a video (Flash)",
    b"\0\0\1\xba": "a video (MPEG)",
    b"OggS": "sound or a video (Ogg)",
    b"ID3": "sound (MP3)",
    b"PAR1": "a Parquet file",
    b"version https://git-lfs": "a pointer to a file in Git LFS, and not the file: fetch it with git lfs pull",
    b"data:image/": "a data: address: give its bytes",
    b"iVBORw0KGgo": "a PNG written in base64: give its bytes",
    b"/9j/": "a JPEG written in base64: give its bytes",
    b"UklGR": "a WebP written in base64: give its bytes",
    b"R0lGOD": "a GIF written in base64: give its bytes",
}
BRANDS = {
    "an AVIF picture": (b"avif", b"avis"),
    "a HEIC picture, as phones take it": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "a camera's raw file": (b"crx ",),
}
"""Pictures among the files of ISO 14496-12, by their major brand; all others are videos."""
LOOKED_AT = 4096  # bytes
TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
CODE = re.compile(r"<Code>(\w{1,60})</Code>")
PAGE = re.compile(r"<(!doctype html|html|head|body|title)\b", re.IGNORECASE)


def name_of(data: bytes) -> str:
    """Say what a file is that isn't read, with what to do where that helps: "a web page (“404 Not Found”)"."""
    if data[4:8] == b"ftyp":
        return next((name for name, brands in BRANDS.items() if data[8:12] in brands), "a video (MP4 or QuickTime)")
    if data[:4] == b"RIFF":
        return "a video (AVI)" if data[8:12] == b"AVI " else "sound (WAV)"
    begins = data[:LOOKED_AT].lstrip(b"\xef\xbb\xbf \t\r\n")
    known = next((name for beginning, name in BEGINNINGS.items() if begins.startswith(beginning)), None)
    return known or _of_text(begins) or f"a file that begins with the bytes {data[:8].hex(' ')}"


def _of_text(begins: bytes) -> str | None:
    """Return what a text is; None of what is none."""
    if not begins:
        return "nothing but spaces"
    text = begins.decode("utf-8", "replace")
    if sum((not char.isprintable() and char not in "\r\n\t") or char == "\ufffd" for char in text) > len(text) / 50:
        return None
    if "<svg" in text and text.startswith("<"):
        return "an SVG drawing: draw it as a PNG"
    if PAGE.search(text) and text.startswith("<"):
        title = TITLE.search(text)
        said = " ".join(title[1].split())[:60] if title else ""
        return f"a web page (“{said}”)" if said else "a web page"
    if text.startswith("<") and (code := CODE.search(text)):
        return f"an object store's error ({code[1]})"
    if text.startswith("<"):
        return "an XML document"
    return "a JSON document" if text[0] in "{[" else "a text"
