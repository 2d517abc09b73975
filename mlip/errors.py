"""The exception for faulty input, as opposed to bugs in mlip: what is wrong, where, and how to fix it.

Library code raises it; the command line prints it as a single line and exits with status 2.
"""


class MlipError(Exception):
    """An error that the user can fix.

    Args:
        what: the fault, e.g. "energy is NaN".
        where: file, material id, key or option in which the fault was found, e.g. "paths.json.bz2: agm001: step 3".
        fix: how to correct it, e.g. "pass --skip-malformed or repair the file".
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        self.what, self.where, self.fix = what, where, fix
        line = f"{where}: {what}" if where else what
        super().__init__(f"{line} ({fix})" if fix else line)

    def __reduce__(self):  # keeps the keyword-only arguments when the error is pickled by a worker process
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(cls: type[MlipError], what: str, where: str | None, fix: str | None) -> MlipError:
    return cls(what, where=where, fix=fix)
