"""Images, texts and numbers in; calibrated answers of ONNX models out, batched on a GPU or a CPU.

Errors are `application/problem+json` (RFC 9457): `code` is stable, `detail` says what to do, and `errors` lists
everything that is wrong with a request. [Every problem](problems) has a page. Every answer carries `X-Request-ID`
(yours, if you send one), which is in the server's log too.
"""
