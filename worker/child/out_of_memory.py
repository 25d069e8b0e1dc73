"""Whether an exception means that memory ran out, on the host or on a GPU, whoever noticed it."""

import errno

import torch

# What torch, CUDA's libraries and C++ say; they have exceptions of their own for few of these.
WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    "cudaerrormemoryallocation",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Of an exception, or of one that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and says_out_of_memory(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def says_out_of_memory(text: str) -> bool:
    """Whether a message speaks of memory that could not be had."""
    lower = text.lower()
    return any(words in lower for words in WORDS)
