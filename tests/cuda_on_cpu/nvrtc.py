"""Compiles every .cu of minidl to machine code, as CuPy would on a machine with a GPU: its compiler, its options, no GPU.

    python tests/cuda_on_cpu/nvrtc.py          prints, as JSON, the bytes of machine code and the parameters of every kernel

Needs the extra `cuda-check` (CuPy and NVRTC's wheel). A script of its own, since it imports the real CuPy, whose place other
tests fill with the stand-in.
"""
import importlib
import inspect
import json
import pkgutil
import re

ARCHITECTURES = ("75", "80", "90", "120")
"""Turing, Ampere, Hopper, Blackwell: what CUDA 13 compiles for and students own."""


def all_kernels():
    """name of the .cu file -> its `Kernels`, for the whole package."""
    import minidl
    from minidl.cuda import Kernels
    found = {}
    for module in pkgutil.walk_packages(minidl.__path__, "minidl."):
        if module.name.startswith(("minidl.ops.", "minidl.optim.")):
            kernels = getattr(importlib.import_module(module.name), "KERNELS", None)
            if isinstance(kernels, Kernels):
                found[kernels.path.name] = kernels
    return dict(sorted(found.items()))


def compile_with_cupy(source, options, target, kind):
    """What CuPy's own compile function makes of `source`: "cubin" for sm_75 and the like, "ptx" for compute_75."""
    from cupy.cuda import compiler
    compiler._get_arch_for_options_for_nvrtc = lambda arch=None: (f"-arch={arch}", kind)  # the stock one asks the GPU
    return compiler.compile_using_nvrtc(source, options, arch=target)[0]


def options_of_cupy():
    """The options that CuPy adds to a RawModule's own before it compiles; the rest is added by the function called above."""
    from cupy.cuda import compiler

    from minidl.cuda import OPTIONS
    added = re.findall(r"options \+= \('(-ftz=\w+)',\)", inspect.getsource(compiler._compile_with_cache_cuda))
    if not added:
        raise RuntimeError("CuPy no longer adds -ftz=true: read _compile_with_cache_cuda and change this function")
    return (*OPTIONS, *added)


def parameters_of_ptx(ptx):
    """kernel -> the types of its parameters ("u64", "f32", ...), as compiled."""
    kernels = re.findall(r"\.entry (\w+)\s*\((.*?)\)", ptx, flags=re.S)
    return {name: re.findall(r"\.param \.(\w+)", declared) for name, declared in kernels}


def main():
    options, found = options_of_cupy(), {}
    for name, kernels in all_kernels().items():
        ptx = compile_with_cupy(kernels.source, options, "compute_75", "ptx")
        code = {arch: compile_with_cupy(kernels.source, options, f"sm_{arch}", "cubin") for arch in ARCHITECTURES}
        if any(not machine.startswith(b"\x7fELF") for machine in code.values()):
            raise RuntimeError(f"{name}: NVRTC gave no machine code")
        found[name] = {"machine code": {arch: len(machine) for arch, machine in code.items()},
                       "parameters": parameters_of_ptx(ptx.decode())}
    print(json.dumps({"options": options, "files": found}))


if __name__ == "__main__":
    main()
