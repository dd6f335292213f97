"""What AWS and others ask, in US dollars, in us-east-1: each with where that was read. docs/scale.md has the dates."""

LAMBDA_GB_S = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
LAMBDA_REQUEST = 0.20 / 1e6
LAMBDA_TMP_GB_S = 0.0000000309
"""Of /tmp above the 512 MB that are free."""
LAMBDA_FREE_TMP_MB = 512

S3_WRITE, S3_READ = 0.005 / 1000, 0.0004 / 1000
"""PUT and LIST; GET and HEAD. DELETE is free."""
SQS_REQUEST = 0.40 / 1e6
SQS_REQUESTS = 3
"""A message is sent, received and deleted, each a request of its own at batches of one."""

SERVER_HOUR = {"m7i.xlarge": 0.2016}
SERVER_VCPUS = 4

APIS_PER_HOUR = {
    "Hume AI, Expression Measurement, audio only ($0.0639 a minute)": 0.0639 * 60,
    "AssemblyAI, transcription with sentiment of the text ($0.37 + $0.02 an hour)": 0.39,
    "Deepgram, Nova-3 transcription, sentiment of the text not included ($0.0048 a minute)": 0.0048 * 60,
}
