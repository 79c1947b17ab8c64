"""The error for a missing package of an extra."""

__all__ = ["missing"]


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The error to raise instead of this one: it names the extra to install."""
    return ModuleNotFoundError(f'{error}: pip install "opchat[{extra}]"', name=error.name, path=error.path)
