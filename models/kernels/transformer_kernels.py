"""Triton kernels for what lies between the products of a double-stream block.

Each reads its tokens once and writes them once: on an H200 what lies between products is bound by memory. Arithmetic
is in float32 and is rounded once, where diffusers rounds after every operation. `models.transformer.fused` says what
each computes.
"""

import torch
import triton
import triton.language as tl

FLOAT8_SHARE = tl.constexpr(1 / 448)  # of the largest finite number of float8_e4m3fn, which a row's largest becomes
TINY = tl.constexpr(1e-12)


@triton.jit
def _store_row(values, pointer, scale_pointer, row, width, columns, mask, QUANTIZE: tl.constexpr):
    """Store one row, as float8 with its scale or as it is."""
    if QUANTIZE:
        largest = tl.max(tl.abs(values), axis=0)
        scale = tl.maximum(largest, TINY) * FLOAT8_SHARE
        tl.store(scale_pointer + row, scale)
        values = values * (1.0 / scale)
    tl.store(pointer + row * width + columns, values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _kept(values, pointer):
    """What remains of float32 numbers in the precision of `pointer`; float16 is clipped, as diffusers clips it."""
    if pointer.dtype.element_ty == tl.float16:
        values = tl.minimum(tl.maximum(values, -65504.0), 65504.0)
    return values.to(pointer.dtype.element_ty)


@triton.jit
def _modulated_norm(
    x_pointer,
    update_pointer,
    bias_pointer,
    gate_pointer,
    shift_pointer,
    scale_pointer,
    kinds_pointer,
    out_pointer,
    row_scale_pointer,
    width,
    gate_stride,
    stride,
    eps,
    UPDATE: tl.constexpr,
    KINDS: tl.constexpr,
    QUANTIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    x = tl.load(x_pointer + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    if KINDS:
        kind = tl.load(kinds_pointer + row).to(tl.int64)
        gate_pointer += kind * gate_stride
        shift_pointer += kind * stride
        scale_pointer += kind * stride
    if UPDATE:
        update = tl.load(update_pointer + row * width + columns, mask=mask, other=0.0).to(tl.float32)
        update += tl.load(bias_pointer + columns, mask=mask, other=0.0).to(tl.float32)
        gate = tl.load(gate_pointer + columns, mask=mask, other=0.0).to(tl.float32)
        kept = _kept(x + gate * update, x_pointer)
        tl.store(x_pointer + row * width + columns, kept, mask=mask)
        x = kept.to(tl.float32)
    mean = tl.sum(x, axis=0) / width
    centred = tl.where(mask, x - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, axis=0) / width + eps)
    shift = tl.load(shift_pointer + columns, mask=mask, other=0.0).to(tl.float32)
    scale = tl.load(scale_pointer + columns, mask=mask, other=0.0).to(tl.float32)
    values = tl.where(mask, centred * deviation * (1.0 + scale) + shift, 0.0)
    _store_row(values, out_pointer, row_scale_pointer, row, width, columns, mask, QUANTIZE)


@triton.jit
def _rotated(
    qkv_pointer,  # [tokens, 3, heads, width]
    bias_pointer,  # [3, heads, width]
    joint_pointer,  # [joint tokens, 3, heads, width]
    query_weight_pointer,
    key_weight_pointer,
    cos_pointer,  # [positions, width / 2]
    sin_pointer,
    positions_pointer,
    places_pointer,
    heads,
    eps,
    width: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    place = tl.load(places_pointer + token).to(tl.int64)
    position = tl.load(positions_pointer + token).to(tl.int64)
    pairs = tl.arange(0, BLOCK // 2)
    pair_mask = pairs < width // 2
    cos = tl.load(cos_pointer + position * (width // 2) + pairs, mask=pair_mask, other=0.0)[None, :]
    sin = tl.load(sin_pointer + position * (width // 2) + pairs, mask=pair_mask, other=0.0)[None, :]
    columns = tl.arange(0, BLOCK)
    rows = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    mask = (rows < heads)[:, None] & (columns < width)[None, :]
    here = rows[:, None] * width + columns[None, :]
    for part in tl.static_range(3):
        x = tl.load(qkv_pointer + (token * 3 + part) * heads * width + here, mask=mask, other=0.0).to(tl.float32)
        x += tl.load(bias_pointer + part * heads * width + here, mask=mask, other=0.0).to(tl.float32)
        if part < 2:
            weight_pointer = query_weight_pointer if part == 0 else key_weight_pointer
            weight = tl.load(weight_pointer + columns, mask=columns < width, other=0.0).to(tl.float32)
            x = x * tl.rsqrt(tl.sum(x * x, axis=1) / width + eps)[:, None] * weight[None, :]
            real, imaginary = tl.split(tl.reshape(x, (HEADS, BLOCK // 2, 2)))
            x = tl.reshape(tl.join(real * cos - imaginary * sin, real * sin + imaginary * cos), (HEADS, BLOCK))
        out = joint_pointer + (place * 3 + part) * heads * width
        tl.store(out + here, x.to(joint_pointer.dtype.element_ty), mask=mask)


@triton.jit
def _loaded(pointer, bias_pointer, columns, mask, GELU: tl.constexpr):
    """Part of a row in float32, after its bias and diffusers' gelu-approximate if wanted."""
    x = tl.load(pointer + columns, mask=mask, other=0.0).to(tl.float32)
    if GELU:
        x += tl.load(bias_pointer + columns, mask=mask, other=0.0).to(tl.float32)
        # x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        x = x / (1.0 + tl.exp(tl.minimum(-2.0 * inner, 80.0)))
    return x


@triton.jit(do_not_specialize=["length", "first"])
def _quantized(
    x_pointer,
    bias_pointer,
    out_pointer,
    row_scale_pointer,
    width,
    tokens,
    length,
    first,
    GELU: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    source = x_pointer + ((row // tokens) * length + first + row % tokens) * width
    columns = tl.arange(0, BLOCK)
    if PARTS == 1:
        mask = columns < width
        x = _loaded(source, bias_pointer, columns, mask, GELU)
        _store_row(x, out_pointer, row_scale_pointer, row, width, columns, mask, True)
    else:  # three parts of a power of two, as Qwen-Image's widths are: no lane idles
        out = out_pointer + row * width
        everywhere = columns < BLOCK
        x0 = _loaded(source, bias_pointer, columns, everywhere, GELU)
        x1 = _loaded(source + BLOCK, bias_pointer + BLOCK, columns, everywhere, GELU)
        x2 = _loaded(source + 2 * BLOCK, bias_pointer + 2 * BLOCK, columns, everywhere, GELU)
        largest = tl.maximum(tl.maximum(tl.abs(x0), tl.abs(x1)), tl.abs(x2))
        scale = tl.maximum(tl.max(largest, axis=0), TINY) * FLOAT8_SHARE
        tl.store(row_scale_pointer + row, scale)
        factor = 1.0 / scale
        tl.store(out + columns, (x0 * factor).to(out_pointer.dtype.element_ty))
        tl.store(out + BLOCK + columns, (x1 * factor).to(out_pointer.dtype.element_ty))
        tl.store(out + 2 * BLOCK + columns, (x2 * factor).to(out_pointer.dtype.element_ty))


def modulated_norm(
    x: torch.Tensor,
    update: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
    shift: torch.Tensor,
    scale: torch.Tensor,
    eps: float,
    kinds: torch.Tensor | None,
    out: torch.Tensor,
    row_scale: torch.Tensor | None,
) -> None:
    """See `models.transformer.fused.modulated_norm`; the update is its product, bias and gate."""
    rows, width = x.shape
    block = triton.next_power_of_2(width)
    product, bias, gate = update or (x, shift, shift)
    _modulated_norm[(rows,)](
        x,
        product,
        bias,
        gate,
        shift,
        scale,
        shift if kinds is None else kinds,
        out,
        shift if row_scale is None else row_scale,
        width,
        0 if kinds is None else gate.stride(0),
        0 if kinds is None else shift.stride(0),
        eps,
        UPDATE=update is not None,
        KINDS=kinds is not None,
        QUANTIZE=row_scale is not None,
        BLOCK=block,
        num_warps=_warps(block),
        enable_fp_fusion=True,
    )


def rotated(
    qkv: torch.Tensor,
    bias: torch.Tensor,
    joint: torch.Tensor,
    query_weight: torch.Tensor,
    key_weight: torch.Tensor,
    eps: float,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    places: torch.Tensor,
) -> None:
    """See `models.transformer.fused.rotated`."""
    _, _, heads, width = joint.shape
    heads_a_program = min(4, triton.next_power_of_2(heads))
    _rotated[(len(places), triton.cdiv(heads, heads_a_program))](
        qkv,
        bias,
        joint,
        query_weight,
        key_weight,
        cos,
        sin,
        positions,
        places,
        heads,
        eps,
        width=width,
        HEADS=heads_a_program,
        BLOCK=triton.next_power_of_2(width),
        num_warps=2,
        enable_fp_fusion=True,
    )


def quantized(
    x: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    row_scale: torch.Tensor,
    *,
    tokens: int,
    length: int,
    first: int,
) -> None:
    """Return, of every `length` rows of x [M, D], the `tokens` from `first` on in float8; with a bias, the GELU of
    their sum.
    """
    rows, width = out.shape
    parts = 3 if width == 3 * triton.next_power_of_2(width // 3) else 1
    block = triton.next_power_of_2(width // parts)
    _quantized[(rows,)](
        x,
        x if bias is None else bias,
        out,
        row_scale,
        width,
        tokens,
        length,
        first,
        GELU=bias is not None,
        PARTS=parts,
        BLOCK=block,
        num_warps=4 * _warps(block),
        enable_fp_fusion=True,
    )


def _warps(block: int) -> int:
    return max(1, min(8, block // 1024))
