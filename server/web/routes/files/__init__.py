"""Files: those of jobs, those that workers bring and take, those that users send."""
