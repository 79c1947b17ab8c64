"""The blocking transport under gevent's patched sockets, unchanged."""

import subprocess
import sys

PROGRAM = """
from gevent import monkey

monkey.patch_all()

import gevent

from opchat_transports import collect
from opchat_transports.blocking_server import serve
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk


def ask(number):
    with transport.ask(f"number {number}") as reply:
        return collect(reply)


with serve(small_talk) as server, BlockingTransport(f"http://localhost:{server.port}") as transport:
    jobs = [gevent.spawn(ask, number) for number in range(20)]
    gevent.joinall(jobs, timeout=60, raise_error=True)
    for number, job in enumerate(jobs):
        assert job.value == f'You said "number {number}". This is question 1 of our conversation.', job.value
print("all answered")
"""


def test_twenty_greenlets_ask_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all answered\n", "")
