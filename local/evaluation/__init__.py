"""Resource use of a campaign: CPU and memory of every process while it runs, as tables, plots and a report."""
