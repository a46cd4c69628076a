"""Reading JSON documents, with errors that say what to do."""

from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest, shown

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse_json(body: bytes) -> Any:
    """A JSON document.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON ({error}).") from None


def parse_model(body: bytes, model: type[AnyModel]) -> AnyModel:
    """A JSON document as a model; an empty body is an empty document.

    Raises:
        InvalidRequest: no JSON, or not what the model asks for; names the field.
    """
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        field = shown(".".join(str(part) for part in first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise InvalidRequest(f"There is no field {field!r}; there are {known}.") from None
        raise InvalidRequest(
            f"{field}: {first['msg']}." if field else f"The body is not right: {first['msg']}."
        ) from None
