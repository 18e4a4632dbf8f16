"""Words and decisions of the trade: pure, frozen, total; only the standard library."""
