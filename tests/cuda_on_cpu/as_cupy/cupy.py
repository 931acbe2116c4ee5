"""`import cupy` gives the stand-in to a process that has this folder and the one above on its PYTHONPATH."""
import standin

standin.install()  # takes this module's place in sys.modules, which is what `import` hands out
