"""What can be asked of a product's picture: edits between scenes of one product, and results that are wrong.

An edit changes attributes of a scene and leaves the product what it is. `draw_alike` draws its source and its target.
"""

from dataclasses import dataclass, replace
from random import Random

from models.miniature.world.products import PRODUCTS
from models.miniature.world.scenery import FAULTS
from models.miniature.world.world import (
    BACKGROUNDS,
    COLOURS,
    FORBIDDEN,
    KINDS,
    PATTERNS,
    Alteration,
    Drawing,
    Scene,
    draw_alike,
    held_out,
    nearest_colour,
    random_scene,
    unnamed_pigment,
)

ASKABLE = ("background", "colour", "pattern", "fault")
DOUBLES = 2  # edits that ask for two things, of each product
EDITED = tuple(kind for kind in KINDS if kind not in FORBIDDEN)
"""What is edited: a policy refuses the pictures and the instructions of other products before a model sees them."""
PAIRED_KINDS = (*EDITED, *(kind for kind in EDITED if PRODUCTS[kind].patterned))
"""What pairs are drawn of: patterns are the hardest to learn, so that products that have any come twice as often."""
NARROWEST = 0.75  # of a product's width or height: how far products are pressed that no edit names a colour of
WHITE = 4  # times as often as another background: it is what marketplaces ask for


@dataclass(frozen=True)
class Edit:
    """A product's scene as it is, and as it should be."""

    source: Scene
    target: Scene

    @property
    def asked(self) -> tuple[str, ...]:
        """The attributes that change."""
        return tuple(name for name in ASKABLE if getattr(self.source, name) != getattr(self.target, name))


def changed(scene: Scene, attribute: str, random: Random) -> Scene:
    """Change one of `ASKABLE` to something that a training set may show.

    A pattern that the product can't have becomes another background instead. A fault appears: edits only remove them.
    """
    if attribute == "fault":
        return replace(scene, fault=random.choice(FAULTS[1:]))
    if attribute == "colour":
        known = [each for each in COLOURS if each != scene.colour and not held_out(scene.kind, each)]
        return replace(scene, colour=random.choice(known))
    if attribute == "pattern" and PRODUCTS[scene.kind].patterned:
        others = [each for each in PATTERNS if each != scene.pattern]
        return replace(scene, pattern=random.choices(others, [2 if each == "plain" else 1 for each in others])[0])
    others = [each for each in BACKGROUNDS if each != scene.background]
    return replace(scene, background=random.choices(others, [WHITE if each == "white" else 1 for each in others])[0])


def random_states(random: Random, width: int, height: int) -> list[Scene]:
    """Pick a product, and how it may look: as it is, with each of `ASKABLE` changed alone, in that order."""
    scene = replace(random_scene(random, width=width, height=height, kinds=PAIRED_KINDS), fault="none")
    return [scene, *(changed(scene, attribute, random) for attribute in ASKABLE)]


def unnamed_states(random: Random, width: int, height: int) -> tuple[list[Scene], Alteration]:
    """Pick a product of any colour, which no edit names, width and height: how it may look, and what draws it so.

    Without such products the miniature learns which colours and outlines each kind may have, and gives one of those to
    a product whose own it has never seen. They change their background, their pattern twice, and have a fault.
    """
    scene = replace(random_scene(random, width=width, height=height, kinds=PAIRED_KINDS), fault="none")
    pigment = unnamed_pigment(scene.kind, random)
    scene = replace(scene, colour=nearest_colour(pigment))
    states = [
        scene,
        *(changed(scene, attribute, random) for attribute in ("background", "pattern", "pattern", "fault")),
    ]
    pressed = random.uniform(NARROWEST, 1), random.uniform(NARROWEST, 1)
    return states, Alteration(pigment=pigment, stretch=pressed)


def edits_among(states: list[Scene], random: Random) -> list[tuple[int, int]]:
    """Return what can be asked for between `random_states`: pairs of indices, source and target.

    Each edit of one attribute, and `DOUBLES` of those between two states that each changed something. No target has a
    fault, and none has got the first scene's pattern back, whose repeat nobody could know.
    """

    def askable(before: Scene, after: Scene) -> bool:
        known = after.pattern in (before.pattern, "plain") or after.pattern != states[0].pattern
        return after.fault == "none" and known and bool(Edit(before, after).asked)

    edits = [
        (source, target)
        for source, before in enumerate(states)
        for target, after in enumerate(states)
        if askable(before, after)
    ]
    singles = [pair for pair in edits if 0 in pair]
    doubles = [pair for pair in edits if 0 not in pair]
    return singles + random.sample(doubles, min(DOUBLES, len(doubles)))


def unseen_edit(random: Random, attribute: str, *, width: int = 256, height: int = 256) -> Edit:
    """Pick an edit of one attribute for a product in a pair of kind and colour that training never sees.

    Where a colour is asked for, the pair is the one that comes out. Patterns are asked of products that aren't small:
    on those they are finer than what the miniature's VAE can draw.
    """
    while True:
        scene = replace(random_scene(random, width=width, height=height, held_out=True, kinds=EDITED), fault="none")
        if attribute != "pattern" or (PRODUCTS[scene.kind].patterned and scene.size != "small"):
            break
    other = changed(scene, attribute, random)
    return Edit(other, scene) if attribute in ("colour", "fault") else Edit(scene, other)


WRONGS = ("shape", "colour", "moved", "label")
LABELS = ("ACME", "NOVA", "LUMO", "KIRA", "ORBIT", "PURE", "MAXI", "TERRA")


def wrong_result(edit: Edit, wrong: str, random: Random) -> tuple[Drawing, Drawing]:
    """Draw an edit's source, and a result that has what was asked for but isn't the same product.

    Args:
        edit: what was asked for; its products must leave room to be moved, so none is large.
        wrong: one of `WRONGS`: the result has another shape, colour or place, or other words on its label.
        random: where the drawings take their random numbers from.
    """
    source, target = edit.source, edit.target
    before, after = Alteration(), Alteration()
    if wrong == "shape" and random.random() < 0.5:
        target = replace(target, kind=random.choice([kind for kind in KINDS if kind != source.kind]))
    elif wrong == "shape":
        narrow, wide = random.uniform(0.7, 0.82), random.uniform(0.95, 1.05)
        after = Alteration(stretch=random.choice(((narrow, wide), (wide, narrow))))
    elif wrong == "colour":
        target = replace(target, colour=random.choice([each for each in COLOURS if each != target.colour]))
    elif wrong == "moved":
        far = round(random.uniform(0.06, 0.1) * min(source.width, source.height))
        after = Alteration(shift=random.choice(((far, 0), (-far, 0), (0, far), (0, -far))))
    else:
        one, other = random.sample(LABELS, 2)
        before, after = Alteration(label=one), Alteration(label=other)
    drawn = draw_alike([source, target], random, [before, after])
    return drawn[0], drawn[1]
