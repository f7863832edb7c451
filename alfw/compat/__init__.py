"""Command lines of two older systems: the same names and flags, alfw's own functions behind them."""
