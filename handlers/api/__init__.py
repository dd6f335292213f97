"""The HTTP API: `python -m handlers.api` on this machine, `handlers.api.on_lambda.handler` on AWS.

A request passes `guard` (sizes, slow clients, headers, the log), reaches a route in `recognize`, `uploads` or `page`,
and what goes wrong on the way becomes a problem document in `problems`. What is not HTTP's is in `core`.
"""
