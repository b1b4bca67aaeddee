"""The bundle: what is handed over, written and loaded."""
