"""A server of which one worker finds a model broken when the file `broken` appears; `python -m tests.broken_model`."""

import sys

from service.__main__ import main
from service.stack.application import Application


def trouble(app: Application) -> str | None:
    file = app.settings.models / "broken"
    try:
        file.unlink()
    except FileNotFoundError:
        return None
    return "The model 'classifier/1' is not responding: it hangs."


if __name__ == "__main__":
    Application.trouble = trouble
    sys.exit(main(arguments=[]))
