"""JSON Schemas of recipes and records, published as files; ``python -m optkit.schemas.published`` writes them anew."""
