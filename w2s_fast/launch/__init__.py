"""The units of an experiment on many machines: in this process, on Ray, or as a SLURM array."""
