"""The lowest version that AI Engine can have, from the routes of its REST API and the keys in its pages."""

from ._site_facts import Facts, read_index

__all__ = ["NONCE_NEEDED", "least_version"]

NONCE_NEEDED = (2, 0, 1)

# What shows that the plugin is of this version or a later one (WIRE 1.4, 2.3): routes of its API, keys of data-system.
_ROUTES = {
    "/mwai-ui/v1/discussions/list": (1, 6, 79),
    "/mwai-ui/v1/files/upload": (1, 9, 95),
    "/mwai/v1/simpleJsonQuery": (1, 9, 96),
    "/mwai-ui/v1/files/list": (2, 1, 5),
    "/mwai/v1/simpleAuthCheck": (2, 1, 6),
    "/mwai/v1/start_session": (2, 4, 4),
    "/mwai-ui/v1/discussions/edit": (2, 6, 5),
    "/mwai/v1/listChatbots": (2, 8, 5),
    "/mwai/v1/simpleTranscribeAudio": (2, 8, 9),
    "/mwai/v1/simpleFastTextQuery": (2, 9, 2),
    "/mwai/v1/simpleFileUpload": (2, 9, 3),
    "/mwai-ui/v1/cross-site/auth": (2, 9, 9),
}
_KEYS = {
    "botId": (1, 6, 82),
    "stream": (1, 6, 95),
    "customId": (1, 9, 8),
    "actions": (2, 5, 2),
    "eventLogs": (2, 8, 5),
    "crossSite": (2, 9, 9),
}


def least_version(facts: Facts) -> tuple[int, ...]:
    """The lowest version that the plugin can have; () if unknown."""
    bot, index = facts.chosen, read_index(facts.index) or {}
    routes = index.get("routes")
    signs = [version for route, version in _ROUTES.items() if isinstance(routes, dict) and route in routes]
    if bot is not None:
        signs += [version for key, version in _KEYS.items() if f'"{key}":' in bot.raw_system]
        if bot.nonce is not None and not bot.is_member and '"customId":' in bot.raw_system:
            signs.append(NONCE_NEEDED)
    return max(signs, default=())
