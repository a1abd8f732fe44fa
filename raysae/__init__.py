"""raysae: train sparse autoencoders on language models that reason, then try to disprove what they found."""

__version__ = "0.1.0"
