"""Every option, declared once: command line, recipe keys, JSON schema, Python keywords and tables of the docs derive
from the fields here. Imports pydantic and nothing heavy.
"""
