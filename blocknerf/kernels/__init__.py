"""Operations that are worth compiling: each as plain PyTorch, its definition, and in fast backends."""

from blocknerf.compilation import keep_compiled

keep_compiled()
