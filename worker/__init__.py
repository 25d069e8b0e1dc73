"""The worker: an agent that claims jobs over HTTP, and the processes that train them."""
