"""What is the same for everybody who works on a run: where it is, its blobs, and its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runstore.copies import copied
from runstore.errors import DamagedError, KeyMissingError, ParameterError, RunRemovedError
from runstore.records import End, Secret, keys
from runstore.records.codec import parse_attempt
from runstore.records.framing import stated_digest
from runstore.storage import Storage
from runstore.storage.capabilities import Dated
from runstore.store.blobs import Blobs
from runstore.store.secrets import mask, refuse_short

__all__ = ["RunAccess", "how_given", "secret_missing"]

_NOT_KEPT = "what it did is not kept: stop; `runstore run` starts a new one"


def how_given(name: str) -> str:
    """How a secret is given, for advice."""
    return f"(secrets={{...}}, or RUNSTORE_SECRET_{name.upper()} for the command line)"


def secret_missing(reader: str, name: str) -> ParameterError:
    """The error to raise for a secret that a retry was not given again."""
    return ParameterError(
        f"{reader} reads the secret {name!r}, which is never stored",
        advice=f"give it again {how_given(name)}",
        parameter=name,
    )


class RunAccess:
    """A run that is known by id, nonce, and digest of its record: what a worker process is told.

    :param digest: of ``run.json``, by which it is seen whether the run is still there.
    """

    def __init__(
        self,
        storage: Storage,
        run_id: str,
        nonce: str,
        digest: str,
        secrets: Mapping[str, Any] | None = None,
    ) -> None:
        self.storage = storage
        self.run_id = run_id
        self.nonce = nonce
        self.digest = digest
        self.secrets = dict(secrets or {})
        """Values of secret parameters, in memory only."""
        refuse_short(self.secrets)
        self.prefix = keys.run_prefix(run_id, nonce)
        """Below it is everything of the run but for its own record."""
        self.blobs = Blobs(storage, self.prefix)
        self._version = ""
        """Of ``run.json``, when it was last seen to be this run's."""
        self._dated = storage if isinstance(storage, Dated) else None

    def check_there(self, so: str = _NOT_KEPT) -> None:
        """Check that the run is still the one that was opened, and was not removed since.

        :raises RunRemovedError: if it was, which ends with ``so``: what that means for the caller.

        Cost: at first a read and a stat (HEAD) of ``run.json``; from then on the stat alone.
        """
        key = keys.run_key(self.run_id)
        try:
            version = self._dated.info(key).version if self._dated else ""
            if version and version == self._version:
                return
            if stated_digest(self.storage.read(key)) == self.digest:
                self._version = version
                return
        except KeyMissingError:
            pass
        raise RunRemovedError(
            f"run {self.run_id!r} was removed from {self.storage.url} while this process worked on "
            f"it, and {so}",
            run_id=self.run_id,
        )

    def materialise(self, values: Mapping[str, Any], reader: str) -> dict[str, Any]:
        """The values that a plan names, with blobs read and secrets filled in. They are copies: the
        caller may change them.

        :raises ParameterError: for a secret that was not given.
        :raises BlobMissingError, BlobDamagedError, CodecError: for one that cannot be read.
        """
        out: dict[str, Any] = {}
        for name, value in values.items():
            if type(value) is Secret:
                if value.name not in self.secrets:
                    raise secret_missing(reader, value.name)
                out[name] = copied(self.secrets[value.name])
            else:
                out[name] = self.blobs.load(value, f"{name!r}, which {reader} reads,")
        return out

    def mask(self, text: str) -> str:
        """``text`` with the values of this run's secrets replaced by ``***``: strings of at least
        four characters, also within other values, and the canonical JSON of those; and as Python,
        JSON, URLs, shells, HTML and base64 spell them.

        Errors, reasons and command lines go through it before they are recorded. What was derived
        from a secret otherwise (a hash, a part) is not found, nor are shorter ones.
        """
        return mask(text, self.secrets)

    def read_end(self, path: str, number: int) -> End | None:
        """The end of an attempt; ``None`` if it is missing or damaged. One read."""
        key = keys.attempt_key(self.prefix, path, number, "end")
        try:
            record = parse_attempt(self.storage.read(key), key)
        except (DamagedError, KeyMissingError):
            return None
        return record if isinstance(record, End) else None
