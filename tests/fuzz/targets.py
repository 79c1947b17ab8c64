"""One function for each machine. It takes any bytes, and returns unless a promise is broken."""

from collections.abc import Callable

from tests.fuzz import pages
from tests.fuzz.targets_arguments import arguments
from tests.fuzz.targets_asked import asked
from tests.fuzz.targets_call import call
from tests.fuzz.targets_decoders import json_text, reply, sse
from tests.fuzz.targets_member import member
from tests.fuzz.targets_requests import client, flow
from tests.fuzz.targets_values import conversation, endpoint, messages, proxy, server, upload

TARGETS: dict[str, Callable[[bytes], None]] = {
    "sse": sse,
    "reply": reply,
    "json": json_text,
    "flow": flow,
    "asked": asked,
    "client": client,
    "call": call,
    "server": server,
    "upload": upload,
    "endpoint": endpoint,
    "proxy": proxy,
    "messages": messages,
    "conversation": conversation,
    "page": pages.page,
    "member": member,
    "arguments": arguments,
}
