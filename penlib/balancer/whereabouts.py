"""Where files are that an administrator names: relative to where pen was started, later perhaps in a jail."""

import os

from penlib import process
from penlib.address import Endpoint


class Whereabouts:
    """Of one pen, which will be confined to `jail`, or to nothing if that is empty."""

    def __init__(self, jail: str) -> None:
        self._started_in = self._home = process.working_directory()
        """Where relative file names begin: the directory that pen was started in, or the jail's root."""
        self._wanted = jail
        self.jail = ""
        """Where we are confined to, as named outside; empty before and without a jail."""

    def confined(self) -> None:
        """We are in the jail now, if there is one."""
        if self._wanted:
            self.jail = os.path.normpath(os.path.join(self._home, self._wanted))
            self._home = "/"

    def path(self, name: str) -> str:
        """Where the file is that the administrator calls `name`."""
        return os.path.join(self._home, name)

    def inside(self, name: str) -> str:
        """A file of the command line as it is named from now on: if it is in the jail, by its place there;
        else by the same name, now understood inside."""
        if not name or not self.jail:
            return name
        return process.inside(os.path.normpath(os.path.join(self._started_in, name)), self.jail) or name

    def of_server(self, endpoint: Endpoint) -> Endpoint:
        """A server; the path of a Unix socket made absolute, for it is used from another directory or from
        inside the jail."""
        home = "/" if self._wanted else self._home
        return endpoint._replace(path=os.path.join(home, endpoint.path)) if endpoint.path else endpoint
