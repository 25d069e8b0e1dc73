"""Files of jobs: who may bring or take them, and what is noted of them."""
