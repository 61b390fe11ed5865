"""The bodies of GENERATE jobs: each generator writes one file. The same generator, parameters and seed give the same bytes."""
