"""The engine in C, for runs that are to be over soon: compiled where it is used."""
