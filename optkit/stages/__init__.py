"""The transformations of a recipe: a frozen pydantic model each, with check and apply."""
