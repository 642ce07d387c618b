"""What people see: the tables of the terminal; reads records and nothing else."""
