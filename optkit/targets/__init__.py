"""The runtimes: one contract, one folder each; the only room that imports them to run models."""
