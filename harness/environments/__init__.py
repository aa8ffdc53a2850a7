"""Where releases run: the interpreter with torch and third-party libraries, and the GPU."""
