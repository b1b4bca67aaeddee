"""``optkit.load``: a bundle opened as a session whose inputs are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.formats.tensors import Arrays, Signature, check_feed
from optkit.targets.target import Session, target


class Checked(Session):
    """A session that checks feeds against the signature before the runtime gets them."""

    def __init__(self, session: Session, signature: Signature) -> None:
        self._session = session
        self.signature = signature

    def run(self, feed: Arrays) -> Arrays:
        """Run a feed and return the outputs by name. Raises SignatureError for a feed that does not fit the signature,
        TargetError from the runtime.
        """
        check_feed(feed, self.signature.inputs, where="feed")
        return self._session.run(feed)

    def facts(self) -> dict[str, Any]:
        return self._session.facts()

    def close(self) -> None:
        self._session.close()


def load(path: str | Path) -> Session:
    """Load a bundle, or any model file on its default target, in this process.

    ``optkit.load(bundle).run({"x": array})`` returns the outputs by name. Raises ModelError, TargetError,
    MissingLibraryError.
    """
    from optkit.measurement.candidate import resolve_candidate

    chosen = resolve_candidate(path)
    runtime = target(chosen.target)
    session = runtime.open(chosen.model, runtime.checked(chosen.options))
    return Checked(session, chosen.model.signature or session.signature)
