"""JSON Schemas of recipes and records, published as files; ``python -m optkit.schemas`` writes them anew."""
