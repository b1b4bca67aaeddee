"""What each verb does, as a Python function that returns a record; the command line parses, calls and shows."""
