"""The search behind optimize: proposals, ranking, measurements, the journal, the delivery."""
