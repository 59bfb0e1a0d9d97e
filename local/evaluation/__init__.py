"""What a campaign costs the machine: CPU and memory of every process while it runs, as tables, plots and a report."""
