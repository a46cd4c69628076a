"""What the routes of the serving policy, canaries and shadows answer, for pages that are tested without trials."""

import copy
import json
from typing import Any

from playwright.sync_api import Page, Route

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"

STATE: dict[str, Any] = {
    "model": "classifier",
    "default": "1",
    "previous": "2",
    "aliases": {"stable": "1", "candidate": "3"},
    "versions": [
        {
            "version": "4",
            "status": "refused",
            "aliases": [],
            "share": 0.0,
            "variant": None,
            "device": None,
            "reason": f"model.onnx: is not the file that the manifest was made with {HOSTILE}",
        },
        {
            "version": "3",
            "status": "serving",
            "aliases": ["candidate"],
            "share": 0.25,
            "variant": "int8",
            "device": "cpu",
            "reason": None,
        },
        {
            "version": "2",
            "status": "loaded",
            "aliases": [],
            "share": 0.0,
            "variant": "int8",
            "device": "cpu",
            "reason": None,
        },
        {
            "version": "1",
            "status": "serving",
            "aliases": ["stable"],
            "share": 0.75,
            "variant": "reference",
            "device": "cpu",
            "reason": None,
        },
    ],
    "canary": {
        "version": "3",
        "share": 0.25,
        "step": 1,
        "steps": [{"share": 0.05, "minutes": 10}, {"share": 0.25, "minutes": 30}, {"share": 1.0}],
        "started": 1_790_000_000.0,
        "next_step": 1_790_002_400.0,
    },
    "shadow": {"version": "2", "share": 1.0, "promote": {"agreement": 0.98, "after": 1000}},
    "policy": {"file": "models/classifier/serving.toml", "exists": True, "writable": True, "error": None},
    "last": {
        "time": "2026-09-21T10:00:00+00:00",
        "actor": "alice",
        "action": "canary 3",
        "before": {},
        "after": {},
    },
    "verdict": None,
}

CANARY: dict[str, Any] = {
    "share": 0.25,
    "versions": [
        {
            "version": "1",
            "role": "default",
            "requests": 7512,
            "errors": 2,
            "error_share": 0.00027,
            "latency_ms": {"p50": 4.2, "p95": 9.1, "p99": 15.0},
            "labels": {"cat": 0.4, "dog": 0.35, "ship": 0.2, HOSTILE: 0.05},
            "unfamiliar": 0.012,
        },
        {
            "version": "3",
            "role": "canary",
            "requests": 2504,
            "errors": 12,
            "error_share": 0.0048,
            "latency_ms": {"p50": 3.1, "p95": 6.4, "p99": 11.2},
            "labels": {"cat": 0.31, "dog": 0.44, "ship": 0.25},
            "unfamiliar": None,
        },
    ],
    "verdict": None,
}


def _labels(*pairs: tuple[str, float]) -> dict[str, Any]:
    return {"name": None, "labels": [{"label": label, "probability": probability} for label, probability in pairs]}


SHADOW: dict[str, Any] = {
    "version": "2",
    "against": "1",
    "measure": "same label",
    "compared": 1204,
    "dropped": 31,
    "failed": 0,
    "agreement": {"value": 0.982, "low": 0.973, "high": 0.988},
    "difference": {"mean": 0.0123, "p95": 0.11, "max": 0.71},
    "classes": [
        {"label": "cat", "compared": 480, "agreement": 0.95, "low": 0.927, "high": 0.966},
        {"label": "dog", "compared": 420, "agreement": 1.0, "low": 0.991, "high": 1.0},
        {"label": HOSTILE, "compared": 4, "agreement": 0.75, "low": 0.3, "high": 0.95},
    ],
    "over_time": [
        {"time": 1_790_000_000 + 60 * minute, "compared": 40, "agreed": 40 - minute % 4} for minute in range(30)
    ],
    "examples": [
        {
            "id": "picture/1",
            "difference": 0.71,
            "label": "cat",
            "media_type": "image/png",
            "answer": _labels(("cat", 0.81), ("dog", 0.12)),
            "candidate": _labels(("dog", 0.83), ("cat", 0.1)),
        },
        {
            "id": "text",
            "difference": 0.6,
            "label": HOSTILE,
            "media_type": "text/plain",
            "answer": _labels((HOSTILE, 0.9)),
            "candidate": _labels(("dog", 0.7)),
        },
        {
            "id": "row",
            "difference": 0.5,
            "label": None,
            "media_type": "application/json",
            "answer": {"name": None, "value": 12.5},
            "candidate": {"name": None, "value": 18.25},
        },
        {
            "id": "boxes",
            "difference": 0.4,
            "label": "RBC",
            "media_type": "image/png",
            "answer": {
                "name": None,
                "width": 32,
                "height": 32,
                "boxes": [{"label": "RBC", "index": 0, "score": 0.9, "x_min": 4, "y_min": 4, "x_max": 16, "y_max": 16}],
            },
            "candidate": {"name": None, "width": 32, "height": 32, "boxes": []},
        },
        {
            "id": "gone",
            "difference": 0.3,
            "label": "cat",
            "media_type": "image/png",
            "answer": {"name": None, "latents": [0.5, -1.0, 0.25]},
            "candidate": {"unknown": HOSTILE},
        },
    ],
    "verdict": None,
}


class Trials:
    """Answers a page's requests for the policy and the trials of the classifier.

    Attributes:
        state, canary, shadow: what is answered; tests may change them.
        asked: method, path and JSON of every request, in order.
        keys: the Authorization headers that may do everything; empty if everybody may.
        refusal: `(status, slug, detail)` of every change, or None.
        down: whether the policy's routes fail.
    """

    def __init__(self, page: Page, picture: bytes) -> None:
        self.state, self.canary, self.shadow = (copy.deepcopy(each) for each in (STATE, CANARY, SHADOW))
        self.asked: list[tuple[str, str, Any]] = []
        self.keys: set[str] = set()
        self.refusal: tuple[int, str, str] | None = None
        self.down = False
        self._inputs = {
            "picture/1": ("image/png", picture),
            "boxes": ("image/png", picture),
            "text": ("text/plain", f"A text {HOSTILE}".encode()),
            "row": ("application/json", json.dumps({"rows": [{"age": 41, "job": HOSTILE, "none": None}]}).encode()),
        }
        for pattern in ("policy", "canary", "shadow", "shadow/examples/*", "promote", "pin", "rollback", "aliases/*"):
            page.route(f"**/v1/models/classifier/{pattern}", self._answer)

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for _, asked, _ in self.asked)

    def _answer(self, route: Route) -> None:
        request = route.request
        path = request.url.partition("/v1/models/classifier/")[2]
        self.asked.append((request.method, path, request.post_data_json if request.post_data else None))
        reserved = request.method != "GET" or path.startswith("shadow/examples/")
        if self.keys and reserved and request.headers.get("authorization") not in self.keys:
            _refuse(route, 403, "forbidden", "The key 'reader' lacks the scope 'admin', which this needs.")
        elif self.down:
            _refuse(route, 500, "internal-error", "Something failed.")
        elif request.method != "GET" and self.refusal:
            _refuse(route, *self.refusal)
        elif request.method != "GET" or path == "policy":
            route.fulfill(json=self.state)
        elif path.startswith("shadow/examples/"):
            found = self._inputs.get(path.removeprefix("shadow/examples/").replace("%2F", "/"))
            if found is None:
                _refuse(route, 404, "not-found", "There is no such example.")
            else:
                route.fulfill(content_type=found[0], body=found[1])
        else:
            route.fulfill(json=self.canary if path == "canary" else self.shadow)


def _refuse(route: Route, status: int, slug: str, detail: str) -> None:
    problem = {"type": f"/problems/{slug}", "code": slug, "status": status, "detail": detail}
    route.fulfill(status=status, content_type="application/problem+json", body=json.dumps(problem))
