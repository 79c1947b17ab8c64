"""Recipes: the machines of `opchat_proto` driven by other event loops."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.suite")
