"""Options of ``doctor``."""

from __future__ import annotations

from optkit.options.option import Options


class DoctorCommand(Options):
    """No options of its own."""
