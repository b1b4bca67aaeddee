"""Quality and difference: metrics on outputs, statistics of times, and whether a difference is real."""
