"""The fake target: a runtime with a clock of its own, whose whole tables tests compare without sleeping."""
