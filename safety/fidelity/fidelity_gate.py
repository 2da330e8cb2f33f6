"""The gate behind `packshot edit`: from a source, a result and an instruction to a verdict with its measures.

product = find_product(source)
verdict = judge_edit(source, result, product, Instruction.load("recolour"), {"colour": "red"})
verdict.allowed, verdict.waits, verdict.reason      # done, review, or rejected as "product_changed", "moved", …
verdict.scores                                      # judge again by `instruction.judge(scores)`, without pictures
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from safety.fidelity.frames import PairError
from safety.fidelity.instruction import COLOUR, Instruction
from safety.fidelity.measure_names import PREFIX
from safety.fidelity.measuring import EditedPair, measure, measure_wanted
from safety.fidelity.product_mask import NoProduct, ProductMask
from safety.fidelity.text_reading import Reader, SourceTexts, measure_text
from safety.verdict import Verdict, ask

NO_COMPARISON = f"{PREFIX}comparison"  # what a person is asked about where nothing could be compared


def judge_edit(
    source: np.ndarray,
    result: np.ndarray,
    product: ProductMask | NoProduct,
    instruction: Instruction,
    values: Mapping[str, str],
    reader: Reader | None = None,
    texts: SourceTexts | None = None,
) -> Verdict:
    """Judge whether a result has what was asked for, and still the same product.

    What can't be compared is left to a person, with a sentence that says why: a source without a product that stands
    out, a mask of another shape, a picture of one pixel.

    Args:
        source: uint8 or uint16, [H, W], [H, W, 3] or [H, W, 4] with straight alpha.
        result: the same, of any size.
        product: where it is on the source, or why that can't be told: see `safety.fidelity.product_mask`.
        instruction: what was asked for.
        values: what was put into its text.
        reader: what reads the texts of both, if that is installed: see `safety.fidelity.text_reading`.
        texts: those of the source, if more results are compared with it.
    """
    if isinstance(product, NoProduct):
        return _left_to_a_person(product.sentence)
    try:
        pair = EditedPair(source, result, product)
        scores = measure(pair)
        if COLOUR in instruction.fields:
            scores |= measure_wanted(pair, values.get(COLOUR, ""))
        if reader is not None:
            scores |= measure_text(pair, reader, texts)
    except PairError as error:
        return _left_to_a_person(str(error))
    return instruction.judge(scores)


def _left_to_a_person(why: str) -> Verdict:
    return ask({NO_COMPARISON: 1.0}, f"A person has to compare the result with its source. {why}")
