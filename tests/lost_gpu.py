"""A server whose GPU is lost at the fifth run after the models are warm; `python -m tests.lost_gpu` runs it."""

import sys

from service import memory
from service.__main__ import main
from tests.cuda import LOST, fake_cuda

if __name__ == "__main__":
    with fake_cuda() as recorded:
        settle = memory.settle

        def started() -> None:
            settle()
            recorded.errors.append(RuntimeError(LOST))

        memory.settle = started
        sys.exit(main(arguments=[]))
