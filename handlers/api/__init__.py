"""The HTTP API: `python -m handlers.api` on this machine, `handlers.api.on_lambda.handler` on AWS.

A request passes `middleware` (size, headers, log), then a route in `recognize`, `results`, `health` or `web`. Errors
become problem documents in `problems`.
"""
