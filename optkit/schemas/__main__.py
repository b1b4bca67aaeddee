"""``python -m optkit.schemas``: write the schemas anew."""

from optkit.schemas import published

for name, text in published.texts().items():
    (published.FOLDER / name).write_text(text, encoding="utf-8")
