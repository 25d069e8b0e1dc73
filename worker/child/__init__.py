"""The process of one attempt. The only place of the worker that imports torch."""
