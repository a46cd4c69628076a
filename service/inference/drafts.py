"""New versions: written as a draft beside the versions of a model, published by a single rename."""

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path


def new_draft(parent: Path, undo: contextlib.ExitStack) -> Path:
    """An empty folder beside the versions of a model, which no server takes for one.

    Args:
        parent: of the model; made if it does not exist.
        undo: removes the draft, and the parent if it is empty.
    """
    parent.mkdir(parents=True, exist_ok=True)

    def remove_if_empty() -> None:
        with contextlib.suppress(OSError):  # it holds versions
            parent.rmdir()

    undo.callback(remove_if_empty)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=parent))
    undo.callback(shutil.rmtree, draft, ignore_errors=True)
    return draft


def take_number(draft: Path, undo: contextlib.ExitStack) -> Path:
    """Renames a complete draft to the next version of its model.

    Args:
        draft: as `new_draft` gives it.
        undo: makes a draft of the version again.
    """
    draft.chmod(0o755)
    number = max((int(path.name) for path in draft.parent.iterdir() if path.name.isdecimal()), default=0) + 1
    while True:
        version = draft.parent / str(number)
        try:
            os.rename(draft, version)
        except OSError as error:
            # Another command may have taken the number meanwhile.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            number += 1
        else:
            # Withdrawn with a single rename too: a server never sees a version half gone.
            undo.callback(os.rename, version, draft)
            return version
