"""What every run reads first, read once in the process that commands are forked from: the import does it."""

from safety.policy.policy import Policy

Policy.load("default")  # whose lists are kept normalised
