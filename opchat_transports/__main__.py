"""The command `opchat`, also as `python -m opchat_transports`."""

import os
import sys

__all__: list[str] = []


def main() -> int:
    """Run the command with the arguments of the process. Returns its exit code."""
    try:
        from .cli import run
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print('opchat: the command line needs one more package: pip install "opchat[cli]"', file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    if sys.path[0] == os.getcwd():  # `python -m` puts it first; as under `opchat`, installed packages must precede it
        sys.path.append(sys.path.pop(0))
    sys.exit(main())
