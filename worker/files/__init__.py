"""Files of jobs on a worker with a folder of its own: brought, taken, kept, cleaned."""
