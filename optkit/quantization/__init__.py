"""Lower precision: a method for each engine, and the graph work that the methods share."""
