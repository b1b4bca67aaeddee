"""Every option, declared once: command line, recipe, schema, Python keywords and tables of the docs derive from it."""
