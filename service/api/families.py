"""Families of routes: what lies below one prefix and answers its errors in one format."""

from dataclasses import dataclass

from fastapi import APIRouter

from service.stack.failures import ErrorFormat


@dataclass(frozen=True, slots=True)
class Family:
    """Routes that belong together.

    Attributes:
        prefix: of all their paths, such as `/v1`.
        routers: of the routes, thin and ordinary ones; their paths begin with the prefix.
        errors: writes every failure below the prefix, also of paths that are no route.
    """

    prefix: str
    routers: tuple[APIRouter, ...]
    errors: ErrorFormat
