"""One component of a checkpoint, loaded quietly and completely."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from transformers import GenerationConfig

from models.failure import first_line
from models.files.quantization_schemes import DIFFUSERS, TRANSFORMERS, QuantizationScheme, stored_weights
from models.files.safetensors_files import CheckpointError
from models.loading.loaded_once import one_at_a_time
from models.loading.stored import assemble, dequantized_state, keep_stored


@contextmanager
def loading() -> Iterator[None]:
    """Hold while something is loaded: libraries say nothing meanwhile; errors still come as exceptions.

    What is changed is changed for all threads, so that another one waits here until this one has loaded.
    """
    with one_at_a_time, _silence():
        yield


@contextmanager
def _silence() -> Iterator[None]:
    loggers = (diffusers.utils.logging, transformers.utils.logging)
    before = [(logger, logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    root = logging.getLogger()
    silence = logging.NullHandler()
    root.addHandler(silence)  # open_clip logs to the root logger, which would install a handler of its own
    for logger in loggers:
        logger.set_verbosity(logging.CRITICAL)
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silence)
        for logger, verbosity, progress_bar in before:
            logger.set_verbosity(verbosity)
            if progress_bar:
                logger.enable_progress_bar()


def load_part(
    model_class: Any,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    unused: tuple[str, ...] = (),
    keep: QuantizationScheme | None = None,
) -> Any:
    """Load one component straight onto its device.

    Libraries fill missing weights with random numbers and a warning; here that is an error.

    Args:
        unused: beginnings of the names of weights that may be missing.
        keep: of a diffusers model, the scheme whose weights stay as they are stored. The weights of the text encoder's
            blocks always do.
    """
    is_of_diffusers = issubclass(model_class, diffusers.ModelMixin)
    weights = stored_weights(folder, DIFFUSERS if is_of_diffusers else TRANSFORMERS)
    is_compressed = any(stored.scheme for stored in weights.values())
    try:
        if is_compressed and is_of_diffusers:
            return assemble(model_class, folder, weights, device, dtype, keep).eval()
        source: dict[str, Any] = {"pretrained_model_name_or_path": folder}
        if is_compressed:
            config = model_class.config_class.from_pretrained(folder)
            config.__dict__.pop("quantization_config", None)
            source = {"pretrained_model_name_or_path": None, "config": config}
            source["state_dict"] = dequantized_state(weights, dtype)
        model, info = model_class.from_pretrained(
            **source,
            local_files_only=True,
            use_safetensors=True,
            device_map={"": device},
            output_loading_info=True,
            dtype=dtype,
        )
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError | CheckpointError):
            raise
        if "meta tensor" in str(error):  # how diffusers 0.42 with a device_map says that weights are missing
            raise CheckpointError(f"{folder} lacks weights that its config.json asks for", "fetch it again.") from error
        raise CheckpointError(f"{folder} can't be loaded as {model_class.__name__}: {first_line(error)}") from error
    missing = [name for name in info["missing_keys"] if not name.startswith(unused)]
    if missing or info["mismatched_keys"]:
        name = missing[0] if missing else info["mismatched_keys"][0][0]
        raise CheckpointError(f"{folder} doesn't fit its own config.json: {name} is missing or of another size.")
    if is_compressed:
        keep_stored(model, weights)
        if (folder / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval().requires_grad_(False)
