"""The whole stack on this machine: S3, the queue and the function, without an AWS account.

moto's server holds the state. What moto does not do faithfully is done here: the event source mapping, which on AWS
honours `batchItemFailures`, the visibility time-out and the redrive policy. The function runs in worker processes of
its own, as on AWS, so that one that crashes loses nothing but its delivery.
"""
