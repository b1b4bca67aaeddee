"""Whatever is measured, decided or done, as frozen records with JSON schemas: pure data, and its sentences."""
