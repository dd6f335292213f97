"""Run the benchmarks one after another: `make bench`."""

from benchmarks import cold_start, conversations, costs, decisions, families, speakers, speed, stages

speed.main()
families.main()
cold_start.main()
stages.main()
decisions.main()
conversations.main()
speakers.main()
costs.main()
