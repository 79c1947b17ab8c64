"""Scripts of servers that are asked many questions."""

import random

from opchat_transports.testing import GOOD, Close, Reset, Script, Write, cut, refused, response

FAULTY: list[Script] = [cut(20), cut(250), (Reset(),), refused(500, "Broken."), (Write(response(b"<p>Oops")), Close())]


def scripts(count: int) -> list[Script]:
    """Every fourth script is faulty."""
    draw = random.Random(4)
    return [GOOD if number % 4 else draw.choice(FAULTY) for number in range(1, count + 1)]
