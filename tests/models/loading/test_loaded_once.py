"""Models that several threads load at once."""

from concurrent.futures import ThreadPoolExecutor, wait
from time import sleep

from accelerate import init_empty_weights

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.identity import CLIP_FOLDER
from models.clip.clip import Clip
from models.loading.component import loading
from models.loading.loaded_once import loaded, loaded_once


def test_a_clip_is_loaded_whole_while_another_thread_loads_a_model() -> None:
    with ThreadPoolExecutor(1) as threads:
        with loading(), init_empty_weights():  # as diffusers does while it makes a model
            clip = threads.submit(Clip.load, Checkpoint("miniature", CLIP_FOLDER, ""), device="cpu")
            wait([clip], timeout=1.0)
        assert clip.result().embed_texts(["a red mug"]).any()


def test_threads_that_ask_at_once_get_one_model() -> None:
    loads: list[object] = []

    class Holder:
        @loaded_once
        def model(self) -> object:
            loads.append(object())
            sleep(0.01)  # in which the others ask
            return loads[-1]

    holder = Holder()
    assert loaded(holder, "model") is None
    with ThreadPoolExecutor(8) as threads:
        models = list(threads.map(lambda _: holder.model, range(8)))

    assert models == loads * 8
    assert loaded(holder, "model") is loads[0]
