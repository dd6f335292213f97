"""The whole stack on this machine: S3, the queue and the function, without an AWS account.

moto's server stores the objects and the messages. Unlike moto's, the event source mapping in `workers` honours
`batchItemFailures`, the visibility timeout and the redrive policy. The function runs in worker processes, so a crash
ends only one delivery, as on AWS.
"""
