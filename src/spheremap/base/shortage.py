"""What the machine lacks when a command fails through no fault of its data: disk, permission or memory."""

import errno
import re

from spheremap.base.errors import SpheremapError

_AGAIN = "and run the same command again: it goes on from here"
_SHORTAGES = {
    errno.ENOSPC: ("the disk is full", f"free space {_AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"free space {_AGAIN}"),
    errno.EFBIG: ("a file would be larger than is allowed here", f"raise the limit (ulimit -f) {_AGAIN}"),
    errno.EROFS: ("the disk is read-only", f"make it writable {_AGAIN}"),
    errno.EACCES: ("no permission for a file", f"correct its permissions {_AGAIN}"),
    errno.EPERM: ("no permission for a file", f"correct its permissions {_AGAIN}"),
    errno.EIO: ("the disk failed", "look at the disk; copy the project to another one"),
}


def shortage_of(error: BaseException) -> SpheremapError | None:
    """An error that says what is short and what to do; None if `error` comes from something else.

    Libraries wrap the system's errors, so those behind it count as well.
    """
    seen: BaseException | None = error
    while seen is not None:
        found = _memory(seen) or _disk(seen)
        if found is not None:
            return found
        seen = seen.__cause__ or seen.__context__
    return None


def _disk(error: BaseException) -> SpheremapError | None:
    # HDF5 and shutil's copies of folders have the number in their text only
    inner = re.search(r"(?:errno = |\[Errno )(\d+)", str(error))
    number = int(inner[1]) if inner else error.errno if isinstance(error, OSError) else None
    if number not in _SHORTAGES:
        return None
    problem, fix = _SHORTAGES[number]
    where = error.filename if isinstance(error, OSError) else None
    return SpheremapError(problem, where=where, found=str(error).split("\n", maxsplit=1)[0], fix=fix)


def _memory(error: BaseException) -> SpheremapError | None:
    # by name, since torch takes seconds to import and is not here in every command
    if type(error).__name__ == "OutOfMemoryError":
        return SpheremapError(
            "the GPU is out of memory",
            found=str(error).split("\n", maxsplit=1)[0],
            fix=f"end other programs on the GPU or lower features.batch or train.batch, {_AGAIN}",
        )
    if isinstance(error, MemoryError):
        return SpheremapError(
            "the machine is out of memory", found=str(error) or None, fix=f"end other programs {_AGAIN}"
        )
    return None
