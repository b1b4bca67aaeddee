"""The members of the table in ``optkit.reports.report``: a renderer for each format."""
