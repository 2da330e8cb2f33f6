"""A GPU that fails for good, as far as the process is concerned that uses it."""


class DeviceLost(RuntimeError):  # noqa: N818 it is what happened, not what was wrong
    """The GPU is in a state that only a new process leaves; no row is to blame."""


class LanesLost(DeviceLost):
    """No lane can work any more, and none would in a new process of the command."""
