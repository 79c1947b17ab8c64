"""How Hypothesis runs here, and what children of tests inherit."""

import signal

from hypothesis import HealthCheck, settings

# Who is started in the background ignores Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomized: a commit passes or fails by what is in it, on every machine and every day. Looking for new cases is a
# job of its own: `python -m pytest --hypothesis-profile=explore`. No deadline and no check for slow drawing, because
# how busy the machine is says nothing about the code.
settings.register_profile(
    "opchat", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("opchat"), derandomize=False, max_examples=20_000)
settings.load_profile("opchat")
