"""All benchmarks, one after another: `make bench`."""

from benchmarks import cold_start, conversations, decisions, parts, resampling, speed

speed.main()
cold_start.main()
parts.main()
decisions.main()
resampling.main()
conversations.main()
