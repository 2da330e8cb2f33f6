import models  # noqa: F401  says how torch allocates memory, before torch is imported
