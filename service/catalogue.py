"""Every problem that the API may answer with: what it means, what to do, and whether to try again.

Beside the error classes, this is the one place that describes them. The pages at /problems, the examples of the OpenAPI
document and the reference of the errors are made from it.
"""

from dataclasses import dataclass

from service.errors import (
    BodyTooLarge,
    Conflict,
    DeadlineExceeded,
    Draining,
    Forbidden,
    ImageTooLarge,
    InferenceFailed,
    InvalidRequest,
    MethodNotAllowed,
    ModelBroken,
    NotFound,
    NotOffered,
    Overloaded,
    QuartetError,
    RateLimited,
    Unauthorized,
    UndecodableImage,
    UnknownModel,
    UnsupportedMediaType,
    UriTooLong,
    WrongTask,
)

# The path of the pages.
PAGES = "/problems"


@dataclass(frozen=True, slots=True)
class Entry:
    """A problem, described in Markdown.

    Attributes:
        example: one occurrence; its class has the status and the code.
        meaning: when it is answered.
        remedy: what a client or an operator does about it.
        retry: whether the same request may succeed later; begins with yes or no.
        path: of the request in the example.
    """

    example: QuartetError
    meaning: str
    remedy: str
    retry: str
    path: str = "/v1/predict"

    @property
    def code(self) -> str:
        """The stable name."""
        return self.example.slug

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.example.status


_ENTRIES = (
    Entry(
        Unauthorized("This needs an API key: send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`."),
        "The request has no API key, several keys, or one that is misspelt, revoked or expired. `WWW-Authenticate` "
        "lists the ways to send a key.",
        "Send one valid key as `Authorization: Bearer KEY` or `X-API-Key: KEY`. The operator of the server makes keys "
        "with `quartet keys add NAME`.",
        "No.",
    ),
    Entry(
        Forbidden("The key 'alice' lacks the scope 'admin', which POST needs here."),
        "The key lacks the scope that the route needs. On a server without keys: administration from another machine.",
        "Use a key with the scope that `detail` names. Without keys, administer from the server's own machine.",
        "No.",
        "/v1/models/classifier/promote",
    ),
    Entry(
        UnknownModel("No model 'clasifier' is served", ["classifier", "detector"]),
        "No such model or version is served, or the key may not use it.",
        "Use a name from `GET /v1/models`. Its `refused` says why a version on disk is not served.",
        "No.",
    ),
    Entry(
        NotFound("There is nothing at /v1/predictions: /docs lists the routes."),
        "There is no such route, or nothing of this kind at an existing one, such as a canary or a sample.",
        "Check the path. `/docs` lists the routes.",
        "No.",
        "/v1/predictions",
    ),
    Entry(
        MethodNotAllowed("/v1/predict does not take GET, but POST."),
        "The route does not take this method.",
        "Use a method of the `Allow` header.",
        "No.",
    ),
    Entry(
        Conflict("Version 2 answers by default: promote another one first."),
        "The serving policy cannot be changed in this way now.",
        "Remove the obstacle that `detail` names. `GET /v1/models/{name}/policy` shows the policy.",
        "No, not before the policy has changed.",
        "/v1/models/classifier/unload",
    ),
    Entry(
        BodyTooLarge("The body is over the limit of 64 MB: send fewer or smaller items in a request."),
        "The body is over `QUARTET_MAX_BODY_MB`, has more items than `QUARTET_MAX_ITEMS`, or has a text of over 4 "
        "million characters. The connection is closed.",
        "Send fewer or smaller items in a request.",
        "No.",
    ),
    Entry(
        UriTooLong("The path and the query string are over 8000 bytes: send the input in the body."),
        "The path and the query string are over 8,000 bytes. The connection is closed.",
        "Send the input in the body.",
        "No.",
    ),
    Entry(
        UnsupportedMediaType("Content-Type text/html is not read here: send application/json or text/plain."),
        "The route does not read this content type, or the text has a charset other than UTF-8.",
        "Send a content type that `detail` names; write text in UTF-8.",
        "No.",
    ),
    Entry(
        InvalidRequest("top_k=0: Input should be greater than or equal to 1.", parameter="top_k"),
        "A parameter, a header or the body is not what the route or the model accepts. The whole request is refused.",
        "Correct everything in `errors`. An entry names the `parameter`, or has a `pointer` to a value in the body.",
        "No.",
    ),
    Entry(
        UndecodableImage("The image cannot be decoded (image file is truncated): it is damaged or truncated.", index=1),
        "The bytes are not a supported image, or the image is damaged. The whole request is refused; `index` is the "
        "zero-based index of the image.",
        "Send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file. Check that the upload is complete.",
        "No.",
    ),
    Entry(
        ImageTooLarge(
            "The image declares 60000 x 60000 pixels; at most 50000000 are accepted. Send a smaller one.", index=0
        ),
        "The image declares more pixels than `QUARTET_MAX_PIXELS`, or more than its format may have. The whole request "
        "is refused; `index` is the zero-based index of the image.",
        "Scale the image down; models read a few hundred pixels.",
        "No.",
    ),
    Entry(
        WrongTask(
            "The model 'detector' is for the task 'detection', not 'classification': GET /v1/models lists the task of "
            "each."
        ),
        "The model is for another task, which another route serves.",
        "Use the route of the model's task, or another model. `GET /v1/models` lists the task of each.",
        "No.",
    ),
    Entry(
        Overloaded("16384 items wait for 'classifier' already: try again later.", retry_after=2),
        "There is no room in the queue or in memory, or the request would have to wait too long for the model.",
        "Wait for the seconds in `Retry-After`. If this happens often, send fewer requests at a time or add servers.",
        "Yes, after `Retry-After`.",
    ),
    Entry(
        RateLimited("The key 'alice' has sent its requests: try again in 5 s.", retry_after=5),
        "The key has sent more requests or items than its rates allow.",
        "Wait for the seconds in `Retry-After`. `RateLimit` in every answer says how much is left.",
        "Yes, after `Retry-After`.",
    ),
    Entry(
        InferenceFailed("The model gave a number that is infinite or NaN: the input may be too extreme for it."),
        "The model failed on this input. `index`, if there, is the zero-based index of the item.",
        "Leave the item out. If it is an ordinary one, report it to the operator with the `request_id`.",
        "No, the same input usually fails again.",
    ),
    Entry(
        QuartetError("Something failed inside the server; its log has the details under this request's id."),
        "The server has a fault.",
        "Report it to the operator with the `request_id`: the log has the details under it.",
        "Yes, once.",
    ),
    Entry(
        Draining("The server is shutting down: send the request to another one."),
        "The server is starting or shutting down.",
        "Send the request to another server, or wait until this one has restarted.",
        "Yes, after a few seconds.",
    ),
    Entry(
        ModelBroken("A model is not responding, and only a restart helps: the log says which one and why."),
        "A model hangs or fails on every batch, or has no version that can answer.",
        "Tell the operator: the log names the model and the reason. Another version of the model may answer.",
        "Yes, later.",
        "/healthz/ready",
    ),
    Entry(
        DeadlineExceeded("No progress within 30 s: try again, or send fewer or smaller items in a request."),
        "The request made no progress within `QUARTET_TIMEOUT`. A request of several batches makes progress with each.",
        "Send fewer items in a request, or try again when the server has less to do.",
        "Yes, later.",
    ),
    Entry(
        NotOffered("The server has neither shared memory nor settings of traces and logs."),
        "The route belongs to an optional part of the Open Inference Protocol that the server does not have. Errors "
        'below `/v2` have the form of that protocol, `{"error": "…"}`.',
        "Send tensors in the body. `GET /v2` lists the extensions of the server.",
        "No.",
        path="/v2/logging",
    ),
)
CATALOGUE = {entry.code: entry for entry in _ENTRIES}
