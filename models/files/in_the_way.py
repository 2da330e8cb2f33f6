"""What stands where a folder is wanted, while others make folders and tidy them away."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_in_the_way(place: Path) -> bool:
    """Say by a single look whether there is something that is no folder.

    Between two looks a folder may be tidied away, which then seems to be a file: it is there, and it is no folder.
    """
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISDIR(mode) and not place.is_dir()  # a link to a folder is as good as one
