"""A source for each kind of file: the members of the table in ``optkit.data.dataset``."""
