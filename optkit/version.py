"""The version of optkit, stated here only."""

VERSION = "0.1.0"
