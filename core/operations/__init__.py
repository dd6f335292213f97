"""An operator's tasks on a deployed stack: count, backfill, redrive, read results in bulk."""
