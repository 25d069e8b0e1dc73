"""Workers that come and go with the work: where they run, and how many there are to be."""
