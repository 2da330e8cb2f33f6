"""The devices that models run on, and the kernels that can be asked for."""
