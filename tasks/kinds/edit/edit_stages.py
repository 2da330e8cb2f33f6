"""What the stages of a lane do with pictures and instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.checkpoints.checkpoint import weight_files
from models.files.read_ahead import reading_ahead
from models.loading.loaded_once import loaded_once
from models.requests import ConditionPicture, EditPicture, EditRequest, SeenPicture, Shape, edit_size
from safety.fidelity.fidelity_gate import judge_edit
from safety.fidelity.frames import PairError, no_larger
from safety.fidelity.instruction import Instruction, shipped
from safety.fidelity.kept_product import keep_product
from safety.fidelity.product_mask import NoProduct, ProductMask, find_product, given_mask
from safety.fidelity.text_reading import Reader, SourceTexts, text_reader
from safety.marks.provenance import DigitalSourceType
from safety.pictures.layers import WHITE, over
from safety.verdict import Verdict, allow
from tasks.kinds.edit.comparing import Compared, Size, compared_source, is_compared
from tasks.kinds.edit.edit_spec import EditSpec
from tasks.kinds.edit.mask_finder import MaskFinder
from tasks.kinds.edit.ready_made import own_words
from tasks.lane.lane_resources import LaneResources, load_engine
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.original_reader import resized_to
from tasks.lane.picture_stages import PictureStages
from tasks.lane.stages import RowOriginals, Screened
from tasks.manifests.row import PlannedPicture, Row
from tasks.outcome import FailureReason, Outcome
from tasks.results.master import Master
from tasks.sources.source_error import SourceError

if TYPE_CHECKING:
    from models.engines.editor import PictureEditor
    from models.engines.engine import Admit
    from models.engines.made_picture import Picture


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture at the sizes at which it is looked at."""

    encoded: np.ndarray  # by the VAE: uint8 [H, W, 3]
    seen: np.ndarray  # by the text encoder: likewise
    compared: np.ndarray | None  # with a result, no larger than it is there: [H, W, 3], or [H, W, 4] with what is clear
    texts: SourceTexts | None  # those on it


def open_editor(spec: LaneSpec) -> PictureEditor:
    """Load the model."""
    assert isinstance(spec.result_spec, EditSpec)
    with reading_ahead(weight_files(spec.checkpoint)):
        from models.engines.editor import PictureEditor  # imports torch and diffusers, which takes seconds

        return load_engine(PictureEditor, spec, condition_cache=spec.result_spec.condition_cache)


def open_stages(resources: LaneResources, source_type: DigitalSourceType) -> EditStages:
    """Open what the stages of a lane do with pictures and instructions."""
    result_spec = resources.spec.result_spec
    assert isinstance(result_spec, EditSpec)
    return EditStages(resources, result_spec, source_type)


class EditStages(PictureStages):
    """Pictures and instructions in, pictures out."""

    text = "instruction"

    def __init__(self, resources: LaneResources, result_spec: EditSpec, source_type: DigitalSourceType) -> None:
        """`source_type` says how the pictures come about."""
        super().__init__(
            self._edit,
            resources,
            result_spec.finishing,
            source_type,
            intake=None,
            conditions=False,
            compare=self._compare,
            keep=keep_on_edit,
            shows_prompts=False,
        )
        self.engine, self.result_spec = resources.engine, result_spec
        self.reader = resources.original_reader(result_spec.intake, keeps_alpha=True)
        self.shipped = [Instruction.load(name) for name in shipped()]
        mask_model = result_spec.mask_model
        self.mask_finder = MaskFinder(resources, mask_model, self.reader) if mask_model else None

    @loaded_once
    def text_reader(self) -> Reader:
        """Return what reads the texts on pictures, loaded when some are to be compared.

        Raises:
            ModuleNotFoundError: if it was installed where the run was planned, and isn't here.
        """
        reader = text_reader()
        if reader is None:
            raise ModuleNotFoundError("The run compares texts, and the extra packshot[ocr] isn't installed here.")
        return reader

    def read_originals(self, rows: Sequence[Row], masters: Mapping[str, Master]) -> list[RowOriginals | Outcome]:
        """Read each picture of a shard once, and keep it at the sizes at which the model looks at it.

        Where a model finds products, it looks at the pictures of all shards before the first one is read.
        """
        del masters  # what was made says nothing of what it was made from
        if self.mask_finder is not None:
            self.mask_finder.find_all()
        sizes = {row.pictures[0]: (row.width, row.height) for row in rows if is_compared(row)}  # a shard's are one
        masks = {row.mask: (row.width, row.height) for row in rows if row.mask is not None}
        distinct = list(dict.fromkeys(picture for row in rows for picture in row.pictures))
        looked = self.pool.map(lambda picture: self._look(picture, sizes.get(picture)), distinct)
        found = dict(zip(distinct, looked, strict=True))
        planes = dict(zip(masks, self.pool.map(lambda mask: self._mask(mask, masks[mask]), masks), strict=True))
        both = list(dict.fromkeys((row.pictures[0], row.mask) for row in rows if is_compared(row)))
        products = self.pool.map(lambda one: self._compared_source(one[0], found[one[0]], planes.get(one[1])), both)
        compared = dict(zip(both, products, strict=True))
        return [self._originals(row, found, compared) for row in rows]

    def _look(self, picture: PlannedPicture, compared: Size | None) -> Looked | SourceError:
        return self.reader.reduced(picture, lambda pixels: self._at_its_sizes(pixels, compared))

    def _at_its_sizes(self, pixels: np.ndarray, compared: Size | None) -> Looked:
        height, width = pixels.shape[:2]
        spec, opaque = self.result_spec, over(pixels, WHITE)
        encoded = edit_size(width, height, spec.resolution, spec.size_multiple)
        seen = edit_size(width, height, spec.vision_resolution, 1)
        whole = None if compared is None else compared_source(pixels, compared)
        texts = None if whole is None else SourceTexts(whole)
        return Looked(resized_to(opaque, encoded), resized_to(opaque, seen), whole, texts)

    def _mask(self, mask: PlannedPicture, size: Size) -> np.ndarray | SourceError:
        """Return where a mask shows the product, no larger than that is in the result: uint8 [H, W]."""

        def reduce(pixels: np.ndarray) -> np.ndarray | PairError:
            try:
                return no_larger(given_mask(pixels), size)
            except PairError as error:
                return error

        found = self.reader.reduced(mask, reduce)
        if isinstance(found, PairError):
            return SourceError("bad_value", str(found))
        return found.of("mask") if isinstance(found, SourceError) else found

    def _originals(
        self,
        row: Row,
        found: Mapping[PlannedPicture, Looked | SourceError],
        compared: Mapping[tuple[PlannedPicture, PlannedPicture | None], Compared | SourceError],
    ) -> RowOriginals | Outcome:
        looked: list[Looked] = []
        for picture in row.pictures:
            if isinstance(one := found[picture], SourceError):
                return self.reader.failed(row, one.of(picture.column) if picture.column else one)
            looked.append(one)
        words = own_words(row, self.result_spec.instructions, self.shipped)
        pictures, seen = tuple(one.encoded for one in looked), tuple(one.seen for one in looked)
        originals = RowOriginals(row, pictures, seen, own_words=words)
        if not is_compared(row):
            return originals
        if isinstance(beside := compared[row.pictures[0], row.mask], SourceError):
            return self.reader.failed(row, beside)
        if row.keeps_product and isinstance(beside.product, NoProduct):
            return self._without_product(row, beside.product, beside.model_looked)
        return replace(originals, compared=beside)

    def _compared_source(
        self, picture: PlannedPicture, looked: Looked | SourceError, mask: np.ndarray | SourceError | None
    ) -> Compared | SourceError:
        """Return what results of a picture with this mask are compared with; or why one of the two can't be read."""
        if isinstance(looked, SourceError):
            return looked
        if isinstance(mask, SourceError):
            return mask
        source, texts, finder = looked.compared, looked.texts, self.mask_finder
        assert source is not None
        assert texts is not None
        product = find_product(source, mask)
        if finder is None or isinstance(product, ProductMask) or not product.is_untold:
            return Compared(source, texts, product)
        plane = finder.of(picture, source.shape[1::-1])
        return Compared(
            source,
            texts,
            find_product(source, plane) if plane is not None and plane.any() else product,
            model_looked=plane is not None,
        )

    def _without_product(self, row: Row, found: NoProduct, model_looked: bool) -> Outcome:
        """Return the end of a row that is to keep its product, where there is none to keep."""
        if self.mask_finder is None or not found.is_untold:
            return self.reader.failed(row, SourceError("bad_value", f"keep: {found.sentence}"))
        sentence = f"keep: Nothing tells where the product is, and {self.mask_finder.checkpoint.name}"
        if not model_looked:
            sentence += " failed to look for it."
            return self.recorder.failure(row, FailureReason.INTERNAL, sentence, retryable=True)
        return self.reader.failed(row, SourceError("bad_value", f"{sentence} found none, either. Give a mask."))

    def _edit(self, rows: Sequence[Row], screened: Screened, admit: Admit | None) -> Iterator[Sequence[Picture]]:
        pairs = {row.id: [*zip(screened.sources[row.id], screened.seen[row.id], strict=True)] for row in rows}
        distinct = {id(encoded): (encoded, seen) for some in pairs.values() for encoded, seen in some}
        pictures = {at: edit_picture(*pair) for at, pair in distinct.items()}  # rows may share one
        requests = [edit_request(row, [pictures[id(encoded)] for encoded, _ in pairs[row.id]]) for row in rows]
        editor: PictureEditor = self.engine()
        return editor.edit(requests, admit=admit)

    def _compare(self, row: Row, beside: Compared | None, picture: np.ndarray) -> Verdict:
        spec = self.result_spec
        return compare_edit(
            spec.instructions, row, beside, picture, (lambda: self.text_reader) if spec.reads_texts else lambda: None
        )


def compare_edit(
    instructions: Mapping[str, Instruction],
    row: Row,
    beside: Compared | None,
    picture: np.ndarray,
    reader: Callable[[], Reader | None] = lambda: None,
) -> Verdict:
    """Judge an edit by the checks of its ready-made instruction; one in words of its own alone has none.

    Args:
        instructions: by name.
        row: whose picture it is.
        beside: its source, with the product; None where it isn't compared.
        picture: what was made of it.
        reader: gives what reads texts, where the checks ask for them.
    """
    if row.instruction_name is None or beside is None:
        return allow()
    instruction = instructions[row.instruction_name]
    return judge_edit(
        beside.source,
        picture,
        beside.product,
        instruction,
        row.instruction_values,
        reader=reader() if instruction.compares_texts else None,
        texts=beside.texts,
    )


def keep_on_edit(beside: Compared, picture: np.ndarray) -> np.ndarray | None:
    """Return an edit with its source's own product over it; None where that isn't found on it."""
    assert isinstance(beside.product, ProductMask)  # a row without one to keep has ended
    try:
        return keep_product(beside.source, picture, beside.product)
    except PairError:
        return None


def edit_request(row: Row, pictures: Sequence[EditPicture]) -> EditRequest:
    """Return what the engine is asked for."""
    shape = Shape(row.width, row.height, row.steps, row.guidance)
    return EditRequest(row.prompt, row.negative_prompt, row.seed, shape, tuple(pictures))


def edit_picture(encoded: np.ndarray, seen: np.ndarray) -> EditPicture:
    """Return a picture as the engine is asked with it, at both of its sizes."""
    height, width = encoded.shape[:2]
    return EditPicture(SeenPicture.of(seen), ConditionPicture(encoded, width, height))
