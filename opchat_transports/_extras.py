"""What is said where a package of an extra is not installed."""

__all__ = ["missing"]


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The error to raise in place of this one: it names what to install."""
    return ModuleNotFoundError(f'{error}: pip install "opchat[{extra}]"', name=error.name, path=error.path)
