"""The options of ``second``, in a module of their own: child processes do without pydantic."""

from optkit.targets.options import RuntimeOptions


class SecondOptions(RuntimeOptions):
    """Both may be left out."""

    workers: int = 1
    """Threads."""
    turbo: bool = False
    """True for twice the speed."""
