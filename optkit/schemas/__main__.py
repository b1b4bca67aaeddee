"""``python -m optkit.schemas``: write the schemas anew."""

from optkit import schemas

for name, text in schemas.texts().items():
    (schemas.FOLDER / name).write_text(text, encoding="utf-8")
