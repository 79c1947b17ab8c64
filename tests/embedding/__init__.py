"""Recipes: the machines of `opchat_proto` in other people's event loops."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.suite")
