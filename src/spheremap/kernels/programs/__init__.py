"""The Triton programs behind the kernels. Importing a module of this package loads Triton."""
