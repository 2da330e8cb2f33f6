"""What is measured of a source and its result, by name: the words and the unit of each number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "fidelity_"  # of the measures' names among a picture's scores


@dataclass(frozen=True)
class Measure:
    """What one number says."""

    unit: str
    words: str  # how a sentence names it
    is_share: bool = False  # 0.031 is 3.1 %

    def number(self, value: float) -> str:
        """Return a value as a person reads it, without its unit."""
        return f"{100 * value:.3g} %" if self.is_share else f"{value:.3g}"

    def said(self, value: float) -> str:
        """Return the same with its unit."""
        return f"{self.number(value)} {self.unit}"


CIEDE2000 = "(CIEDE2000)"
CORRELATION = "(of 1)"
MEASURES: Mapping[str, Measure] = {
    "shift": Measure("of the frame's shorter side", "how far the product was moved", is_share=True),
    "zoom": Measure("of its size", "how much the product was zoomed", is_share=True),
    "outlines": Measure(CORRELATION, "the likeness of the product's outlines"),
    "colour": Measure(CIEDE2000, "the difference of the product's colours"),
    "colour_spot": Measure(CIEDE2000, "the difference of colours in one spot of the product"),
    "tint": Measure(CIEDE2000, "the difference of the product's colours, whatever their lightness,"),
    "tint_spot": Measure(CIEDE2000, "the difference of colours, whatever their lightness, in one spot of the product"),
    "structure": Measure(CORRELATION, "the likeness of the product's structure"),
    "structure_spot": Measure(CORRELATION, "the likeness of structure in one spot of the product"),
    "recolouring": Measure(CIEDE2000, "what differs of the product beyond a change of colours"),
    "redrawn_spot": Measure(CIEDE2000, "what differs of fine detail in one spot beyond a change of colours"),
    "lost_outlines": Measure("of them", "how many outlines are gone in one spot of the product", is_share=True),
    "covered": Measure("of the product", "what was under something that was taken away", is_share=True),
    "uncovered_spot": Measure(CIEDE2000, "the difference in one spot of the product that nothing had covered"),
    "beside": Measure(CIEDE2000, "the difference of what lies beside the product"),
    "beside_spot": Measure(CORRELATION, "how much the structure of one spot beside the product changed"),
    "light": Measure("(of 100)", "how unevenly the lightness changed"),
    "sharpening": Measure("times", "how steep the sharpest outlines are, to those of the enlarged source,"),
    "white": Measure("of the border", "what is white", is_share=True),
    "text_kept": Measure(CORRELATION, "the likeness of the product's text"),  # see `safety.fidelity.text_reading`
    "text_left": Measure("of its characters", "what is left of the text beside the product", is_share=True),
    "wanted_colour": Measure(CIEDE2000, "the difference of what was recoloured from the wanted colour"),
}
"""All that is measured, by its name without the prefix."""
