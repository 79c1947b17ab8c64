"""The version of the distribution, and of the User-Agent that it sends."""

__version__ = "0.1.0"
