"""A picture's layers as one PSD, for Photoshop and whatever else reads its files.

    data = psd(layers, composite(layers), layer_names(len(layers)))

Written with psd-tools' records of the file format, not with its `PSDImage`: that would blend the flattened picture
again, its own way, when it saves (psd-tools 1.26).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from psd_tools.constants import ChannelID, ColorMode, Compression, Resource, Tag
from psd_tools.psd import PSD
from psd_tools.psd.header import FileHeader
from psd_tools.psd.image_data import ImageData
from psd_tools.psd.image_resources import ImageResource, ImageResources, VersionInfo
from psd_tools.psd.layer_and_mask import (
    ChannelData,
    ChannelDataList,
    ChannelImageData,
    ChannelInfo,
    GlobalLayerMaskInfo,
    LayerAndMaskInformation,
    LayerInfo,
    LayerRecord,
    LayerRecords,
)

from safety.marks.provenance import DigitalSourceType, xmp_packet
from safety.pictures.layers import WHITE, over

LONGEST_SIDE = 30_000  # pixels; what is larger is a PSB (Adobe Photoshop File Formats Specification, 2019)
# A layer's channels in the order of Photoshop's files, and where they are in RGBA.
CHANNELS = {
    ChannelID.TRANSPARENCY_MASK: 3,
    ChannelID.CHANNEL_0: 0,
    ChannelID.CHANNEL_1: 1,
    ChannelID.CHANNEL_2: 2,
}


def psd(layers: np.ndarray, composite: np.ndarray, names: Sequence[str]) -> bytes:
    """Return the bytes of a PSD: RGB, 8 bits a channel, layers in normal mode, and the mark of a model's work (XMP).

    A layer is stored as the box of its visible pixels, at its place, and without the colour of invisible ones: nobody
    sees it, and it is what packs worst. The flattened picture is there for viewers that read nothing else; one that
    isn't opaque lies over white with its alpha beside it, as Photoshop writes it. The same arguments give the same
    bytes.

    Args:
        layers: uint8 [N, H, W, 4], straight alpha, bottom to top.
        composite: uint8 [H, W, 4], straight alpha: the layers put together.
        names: one for each layer, of at most 255 characters.

    Raises:
        ValueError: for any other kind of array, for sizes that differ, for a side above `LONGEST_SIDE`, and for names
            that are too many, too few or too long.
    """
    if layers.dtype != np.uint8 or layers.ndim != 4 or layers.shape[3] != 4 or 0 in layers.shape:
        raise ValueError(f"Layers are uint8 [N, H, W, 4]; these are {layers.dtype} {list(layers.shape)}.")
    if composite.dtype != np.uint8 or composite.shape != layers.shape[1:]:
        expected = list(layers.shape[1:])
        raise ValueError(f"The composite is uint8 {expected}; this is {composite.dtype} {list(composite.shape)}.")
    if max(composite.shape[:2]) > LONGEST_SIDE:
        size = f"{composite.shape[1]} × {composite.shape[0]}"
        raise ValueError(f"A PSD has at most {LONGEST_SIDE:,} pixels a side; this picture has {size}.")
    if len(names) != len(layers) or any(len(name) > 255 for name in names):
        raise ValueError(f"{len(layers)} layers need as many names, of at most 255 characters; there are {len(names)}.")
    opaque = bool((composite[..., 3] == 255).all())
    header = FileHeader(
        channels=3 if opaque else 4,
        height=composite.shape[0],
        width=composite.shape[1],
        depth=8,
        color_mode=ColorMode.RGB,
    )
    records, images = LayerRecords(), ChannelImageData()
    for pixels, name in zip(layers, names, strict=True):
        record, image = _layer(pixels, name)
        records.append(record)
        images.append(image)
    # Below 0: the flattened picture's fourth channel is its alpha, not a selection that somebody saved.
    info = LayerInfo(
        layer_count=len(layers) if opaque else -len(layers), layer_records=records, channel_image_data=images
    )
    document = PSD(
        header=header,
        image_resources=_resources(),
        layer_and_mask_information=LayerAndMaskInformation(info, GlobalLayerMaskInfo()),
        image_data=_flattened(composite, header),
    )
    buffer = io.BytesIO()
    document.write(buffer)
    return buffer.getvalue()


def _layer(pixels: np.ndarray, name: str) -> tuple[LayerRecord, ChannelDataList]:
    visible = pixels[..., 3] > 0
    (top, bottom), (left, right) = _extent(visible, axis=0), _extent(visible, axis=1)
    box = np.where(visible[..., None], pixels, 0)[top:bottom, left:right]
    record = LayerRecord(
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        name=name.encode("macroman", "replace").decode("macroman"),  # for readers from before Unicode
    )
    record.tagged_blocks.set_data(Tag.UNICODE_LAYER_NAME, name)
    image = ChannelDataList()
    for channel, plane in CHANNELS.items():
        data = _channel(box[..., plane])
        record.channel_info.append(ChannelInfo(id=channel, length=2 + len(data.data)))  # 2: its compression
        image.append(data)
    return record, image


def _extent(marked: np.ndarray, *, axis: int) -> tuple[int, int]:
    """Return the first index along an axis where anything is marked, and the one behind the last; 0 and 0 for none."""
    indices = np.flatnonzero(marked.any(axis=1 - axis))
    return (int(indices[0]), int(indices[-1]) + 1) if indices.size else (0, 0)


def _channel(values: np.ndarray) -> ChannelData:
    if not values.size:
        return ChannelData(compression=Compression.RAW)
    channel = ChannelData(compression=Compression.RLE)
    channel.set_data(values.tobytes(), values.shape[1], values.shape[0], 8)
    return channel


def _flattened(composite: np.ndarray, header: FileHeader) -> ImageData:
    planes = [composite[..., index] for index in range(header.channels)]
    if header.channels == 4:
        over_white = over(composite, WHITE)
        planes[:3] = [over_white[..., index] for index in range(3)]
    data = ImageData(compression=Compression.RLE)
    data.set_data([plane.tobytes() for plane in planes], header)
    return data


def _resources() -> ImageResources:
    packet = xmp_packet(software="packshot", source_type=DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA)
    # Photoshop and psd-tools read the flattened picture only where this says that there is one.
    version = VersionInfo(has_composite=True, writer="packshot", reader="packshot")
    resources = ImageResources()
    resources[Resource.VERSION_INFO] = ImageResource(key=Resource.VERSION_INFO, data=version.tobytes())
    resources[Resource.XMP_METADATA] = ImageResource(key=Resource.XMP_METADATA, data=packet)
    return resources
