"""Which country an address is in, from a MaxMind database (GeoLite2-Country and others of that format).

The module that reads it is loaded when there is one to read.  The file stays open, so that it can be used
from inside a jail; a new one is taken up when the command is given again.
"""

from typing import Any

from penlib import address, process
from penlib.errors import PenError, reason


class Countries:
    """One database, or none yet."""

    def __init__(self) -> None:
        self.name = ""
        self._database: Any = None

    def open(self, path: str, name: str) -> None:
        """Use the database at `path`, which the administrator calls `name`.

        Raises PenError, and then the one before stays.
        """
        try:
            import maxminddb
        except ImportError:
            raise PenError("the Python module maxminddb is missing") from None
        try:
            process.check_regular(path)
            database = maxminddb.open_database(path)
        except OSError as exc:
            raise PenError(f"{name}: {reason(exc)}") from exc
        except (maxminddb.InvalidDatabaseError, ValueError) as exc:
            raise PenError(f"{name}: no MaxMind database") from exc
        self.close()
        self._database, self.name = database, name

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
        self._database, self.name = None, ""

    def of(self, packed: bytes) -> str:
        """The ISO 3166 code, in capitals, of the country of a packed address; empty if it is not known."""
        if self._database is None:
            return ""
        try:
            found = self._database.get(address.unpack(packed))
        except (ValueError, OSError):
            return ""  # an IPv6 address, and a database of IPv4 only
        for key in ("country", "registered_country"):
            if (
                isinstance(found, dict)
                and isinstance(place := found.get(key), dict)
                and place.get("iso_code")
            ):
                return str(place["iso_code"]).upper()
        return ""
