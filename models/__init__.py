import logging

# diffusers imports bitsandbytes where it is installed, which on some processors warns of lacking kernels (0.50.2).
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
