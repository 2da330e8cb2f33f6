"""Tensors in dataclasses: all of them go where the dataclass goes."""

import torch

from models.architectures.qwen_image.blocks import replaced, tensors_in
from models.architectures.qwen_image.double_stream import Streams
from models.transformer.packing import Packing


def test_streams_go_to_another_device_whole() -> None:
    """`meta` stands for another GPU: on the CPU alone a tensor that was left behind would go unnoticed."""
    tensors = [torch.full((2,), float(number)) for number in range(9)]
    rows, cos, sin, text_cos, text_sin, image, text, image_in, text_in = tensors
    packing = Packing((1,), 2, torch.device("cpu"))
    streams = Streams(packing, rows, (cos, sin), (text_cos, text_sin), image, text, image_in, text_in)

    assert [tensor.tolist() for tensor in tensors_in(streams)] == [tensor.tolist() for tensor in tensors]

    moved = replaced(streams, lambda tensor: tensor.to("meta"))

    assert {tensor.device.type for tensor in tensors_in(moved)} == {"meta"}
    assert [tensor.device.type for tensor in moved.image_rotary] == ["meta", "meta"]
