"""Owns what the contract tests share: a failing assertion of a public suite shows its values, as those in tests do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("peregrine.testing.store_contract", "peregrine.testing.eve_contract")
