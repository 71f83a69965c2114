"""Many tasks and many fits: experiments, sweeps, dry runs."""
