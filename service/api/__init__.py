"""Images, texts and numbers in; calibrated answers of ONNX models out, batched on a GPU or a CPU.

Errors are `application/problem+json` (RFC 9457): `type` is stable, `detail` says what to do. Every answer carries
`X-Request-ID` (yours, if you send one), which is in the server's log too.
"""
