"""The parts of paths below /v1/models."""

from typing import Annotated

from fastapi import Path

Name = Annotated[str, Path(description="as in `GET /v1/models`", examples=["classifier"])]
VersionNumber = Annotated[str, Path(description="of the model, as in `GET /v1/models`", examples=["1"])]
