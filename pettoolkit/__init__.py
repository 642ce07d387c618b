"""pettoolkit: the same prediction task under each privacy-enhancing technology, measured."""

__version__ = "0.1.0"
