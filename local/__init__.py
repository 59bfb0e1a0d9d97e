"""The whole system on one machine: embedded servers, the launcher of all processes, the dumps."""
