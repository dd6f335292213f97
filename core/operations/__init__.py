"""What an operator does with a stack on AWS: count, backfill, redrive, read results in bulk. No function needs it."""
