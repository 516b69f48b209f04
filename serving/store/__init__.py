"""What outlives a process: the tables of the job database, and the files beside them."""
