"""What a lane holds open for the stages of its kind, and what these may load on its device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from models.checkpoints.checkpoint import Checkpoint
from tasks.judging.judges import Judges
from tasks.lane.lane_spec import LaneSpec
from tasks.lane.original_reader import OriginalReader
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.ledger.decision import Decisions
from tasks.ledger.plan import Plan
from tasks.sources.intake import Intake
from tasks.stores.store import Store

if TYPE_CHECKING:
    from models.engines.engine import Engine
    from models.loading.prompt_encoder import PromptEncoder
    from models.memory.usage import Usage

    AnyEngine = TypeVar("AnyEngine", bound=Engine)

DECODERS = 4  # processes that decode source pictures


class LaneEngine(Protocol):
    """What a lane knows of the model that makes its results."""

    @property
    def usage(self) -> Usage | None:
        """What it was predicted to take of the device, and took; None if it made nothing."""

    @property
    def components(self) -> PromptEncoder:
        """What reads prompts as the model does; only a policy with a probe asks for it."""


@dataclass(frozen=True)
class LaneResources:
    """What a lane holds open for the stages of its kind."""

    spec: LaneSpec
    store: Store
    plan: Plan
    judges: Judges
    decisions: Decisions
    pool: Executor  # for the store, for reading and for encoding
    recorder: OutcomeRecorder
    engine: Callable[[], Any]  # gives what the kind opens, loaded when it is first asked for
    open: ExitStack  # what is closed with the lane

    def original_reader(self, intake: Intake, *, keeps_alpha: bool) -> OriginalReader:
        """Open what reads the pictures that rows are made from."""
        decoder = self.open.enter_context(intake.decoder(DECODERS))
        return OriginalReader(intake.sources(), decoder, self.store, self.recorder, keeps_alpha)


def load_engine(
    engine: type[AnyEngine],
    spec: LaneSpec,
    *,
    condition_cache: int = 1,
    controlnet: Checkpoint | None = None,
    controlnet_scale: float = 1.0,
) -> AnyEngine:
    """Load a bulk engine as a lane was told to; see `models.engines.engine.Engine.load`."""
    return engine.load(
        spec.checkpoint,
        device=spec.hardware.device,
        precision=spec.precision,
        fused=spec.hardware.fused,
        attention=spec.hardware.attention,
        step_cache=spec.step_cache,
        condition_cache=condition_cache,
        batch=spec.hardware.batch,
        memory_fraction=spec.hardware.memory_fraction,
        gpu_memory=spec.hardware.gpu_memory,
        placement=spec.hardware.placement,
        max_prompt_tokens=spec.max_prompt_tokens,
        controlnet=controlnet,
        controlnet_scale=controlnet_scale,
        loras=spec.loras,
        scheduler=spec.scheduler,
    )


@contextmanager
def losing_the_device() -> Iterator[None]:
    """Have an error of the device while a model is opened say that it is lost, as it does while one draws.

    Raises:
        DeviceLost: if it is so.
    """
    try:
        yield
    except RuntimeError as error:
        from models.failure import blame

        blame(error)
        raise


def make_room() -> None:
    """Give what a model held, to which nothing refers any more, back to the device, for the next one."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
