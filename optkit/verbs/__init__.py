"""The Python API: one function for each verb, arguments in, record out."""
