"""From measurements to a verdict: the gate and the choice."""
