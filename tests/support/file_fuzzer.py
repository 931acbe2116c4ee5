"""Damaged and hostile files of weights, thousands of them: each must give arrays or a ValueError, and do nothing else.

    python file_fuzzer.py TRIES SEED [FIRST]

runs in a process of its own, so that a crash, a command that was run, or memory beyond the limit shows. Try number k depends
on the seed and k alone: `1 SEED k` repeats it.
"""
import io
import json
import os
import pickle
import resource
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
from pth_writer import LEGACY_HEAD, Raw, View, legacy_pth, named, program, word, zip_of, zip_pth

MEBI = 2**20
HUGE = [0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**61, 2**62, 2**63 - 1, 2**64 - 1]
HOSTILE = ["os system", "posix system", "nt system", "builtins eval", "builtins exec", "__builtin__ eval", "builtins open",
           "subprocess Popen", "subprocess call", "importlib import_module", "builtins __import__", "builtins getattr",
           "socket create_connection", "shutil rmtree", "webbrowser open", "operator attrgetter", "numpy load",
           "torch.serialization load", "torch.hub load", "torch._utils _import_dotted_name", "collections.OrderedDict fromkeys",
           "copyreg _reconstructor", "argparse Namespace", "types FunctionType", "ctypes CDLL", "pty spawn", "code interact"]
FRIENDLY = ["collections OrderedDict", "collections Counter", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor",
            "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter", "torch.nn.parameter Parameter", "torch Size",
            "torch device", "torch FloatStorage", "torch BFloat16Storage", "torch float32", "torch.storage UntypedStorage",
            "numpy dtype", "numpy._core.multiarray scalar", "_codecs encode"]
STORAGE = np.arange(64, dtype=np.float32).tobytes()


# good files

def state(rng):
    dtypes = ["float32", "float64", "float16", "int64", "uint8", "bool"]
    shapes = [(), (3,), (2, 3), (0, 4), (2, 1, 3, 2), (64,)]
    return {f"layer{k}.weight": rng.integers(0, 2, shapes[rng.integers(6)]).astype(dtypes[rng.integers(6)])
            for k in range(rng.integers(1, 5))}


def safetensors(rng):
    from safetensors.numpy import save
    return save({name: np.asarray(x, order="C") for name, x in state(rng).items()}, {"note": "x" * int(rng.integers(9))})


def npz(rng):
    file = io.BytesIO()
    (np.savez, np.savez_compressed)[rng.integers(2)](file, **state(rng))
    return file.getvalue()


def tree(rng):
    return [state(rng), {"epoch": 3, "state_dict": state(rng), "optimizer": {"state": {0: state(rng)}, "lr": [0.1, -2, None]}}][
        rng.integers(2)]


def zipped(rng):
    return zip_pth(tree(rng))


def legacy(rng):
    return legacy_pth(tree(rng))


GOOD = [safetensors, npz, zipped, legacy]


# damage to any file

def mutate(rng, content):
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(content) + 1)) if rng.random() < 0.7 else int(rng.integers(min(len(content), 64) + 1))
        length = int(rng.choice([1, 2, 8, 64]))
        match rng.integers(9):
            case 0:
                del content[at:]
            case 1 if at < len(content):
                content[at] ^= 1 << int(rng.integers(8))
            case 2:
                content[at:at] = rng.bytes(length)
            case 3:
                del content[at:at + length]
            case 4:
                content[at:at + length] = content[at:at + length] * 2
            case 5:
                content[at:at + length] = bytes([int(rng.choice([0, 255]))]) * length
            case 6 | 7:
                form = str(rng.choice(["<I", "<Q", "<H", ">Q"]))
                number = HUGE[rng.integers(len(HUGE))] % 2**(8 * struct.calcsize(form))
                content[at:at + struct.calcsize(form)] = struct.pack(form, number)
            case 8:
                digits = [k for k, byte in enumerate(content[:4096]) if byte in b"0123456789"]
                if digits:
                    k = digits[rng.integers(len(digits))]
                    content[k:k + 1] = str(HUGE[rng.integers(len(HUGE))]).encode()
    return bytes(content)


def damaged(rng):
    return mutate(rng, GOOD[rng.integers(4)](rng))


def damaged_program(rng):
    """The container is sound, with checksums that fit: damage reaches the machine."""
    storages = {}
    code = mutate(rng, pickle.PROTO + b"\x02" + program(tree(rng), storages, legacy=rng.random() < 0.1) + pickle.STOP)
    return wrapped(rng, code, storages)


def wrapped(rng, code, storages):
    if rng.random() < 0.5:
        return zip_of({"archive/data.pkl": code, **{f"archive/data/{key}": data for key, data in storages.items()}},
                      crc=bool(rng.integers(2)))
    keys = sorted(storages)
    return LEGACY_HEAD + code + pickle.dumps(keys, 2) + b"".join(
        struct.pack("<q", len(storages[key]) // 4) + storages[key] for key in keys)


# lies that fit the form

def any_number(rng):
    if rng.random() < 0.6:
        return int(rng.integers(-1, 9))
    return int(rng.choice([-1, 1])) * HUGE[rng.integers(len(HUGE))] * int(rng.choice([1, 1, 2**64]))


def lying_tensor(rng):
    ndim = int(rng.choice([0, 1, 2, 3, 4, 70]))
    size = tuple(any_number(rng) for _ in range(ndim))
    strides = tuple(any_number(rng) for _ in range(ndim if rng.random() < 0.9 else ndim + 1))
    numel = 64 if rng.random() < 0.7 else any_number(rng)
    kind = str(rng.choice(["torch FloatStorage", "torch BFloat16Storage", "torch BoolStorage", "torch.cuda LongStorage"]))
    view = View("0", numel, any_number(rng), size, strides, kind)
    return (zip_pth if rng.random() < 0.5 else legacy_pth)({"w": view, "v": View("0", 64, 0, (2, 3), (1, 2))}, {"0": STORAGE})


def near_tensor(rng):
    """A tensor that is right but for one number, if that."""
    kinds = [("torch FloatStorage", 4), ("torch BFloat16Storage", 2), ("torch BoolStorage", 1), ("torch.cuda LongStorage", 8)]
    kind, width = kinds[rng.integers(4)]
    size = [(2, 3), (1, 5), (1, 1, 4), (1, 1, 1), (6,), (), (0, 2)][rng.integers(7)]
    numbers = [len(STORAGE) // width, int(rng.integers(4)), *size, *[1] * len(size)]
    if rng.random() < 0.7:
        numbers[rng.integers(len(numbers))] = abs(any_number(rng)) * int(rng.choice([-1, 1, 1, 2**64]))
    if rng.random() < 0.2:  # as large as it says that its storage is
        numbers[0], size, numbers[2:] = 2 * numbers[0], (2 * numbers[0] - 4,), [2 * numbers[0] - 4, 1]
    key, ndim = "0" if rng.random() < 0.9 else "9", len(size)
    view = View(key, numbers[0], numbers[1], tuple(numbers[2:2 + ndim]), tuple(numbers[2 + ndim:]), kind)
    if rng.random() < 0.5:
        return zip_pth({"w": view}, {"0": STORAGE})
    return legacy_pth({"w": view}, {"0": STORAGE}, {"0": numbers[0] % 2**63})


def expanded_tensor(rng):
    size = tuple(int(n) for n in rng.choice([1, 3, 1000, 10**6, 2**31], int(rng.integers(1, 4))))
    view = View("0", 64, 0, size, (0,) * len(size))
    many = {f"w{k}": view for k in range(int(rng.choice([1, 50])))}
    return (zip_pth if rng.random() < 0.5 else legacy_pth)(many, {"0": STORAGE})


def lying_header(rng):
    dtypes = ["F32", "BF16", "BOOL", "F8_E4M3", "C64", "F64", "Q1"]
    header = {name: {"dtype": str(rng.choice(dtypes)),
                     "shape": [any_number(rng) for _ in range(int(rng.choice([0, 1, 2, 80])))],
                     "data_offsets": [any_number(rng), any_number(rng)]} for name in "ab"[:rng.integers(1, 3)]}
    if rng.random() < 0.5:
        dtype, n = [("F32", 64), ("BF16", 128), ("BOOL", 256), ("F8_E4M3", 256), ("C64", 32), ("I64", 32)][rng.integers(6)]
        header = {"a": {"dtype": dtype, "shape": [n], "data_offsets": [0, 256]}}
    if rng.random() < 0.5 and "a" in header:
        field = str(rng.choice(["dtype", "shape", "data_offsets", "more"]))
        header["a"][field] = [None, {}, [[]], "x", -1, 1.5, [2, 32]][rng.integers(7)]
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        text = b'{"a":' + [b"[", b'{"a":'][rng.integers(2)] * int(rng.choice([10, 200, 5000])) + text
    length = len(text) if rng.random() < 0.7 else HUGE[rng.integers(len(HUGE))]
    return struct.pack("<Q", length) + text + STORAGE


def long_header(rng):
    """Nothing but header: many empty tensors, one with many axes, words that widen, lists in lists."""
    n = int(rng.choice([10, 1000, 30_000], p=[0.3, 0.4, 0.3]))
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    word = ["x", "\U0001F600", "\\ud83d\\ude00", '\\"'][rng.integers(4)]
    facts = [",".join(f'"{k}":{empty}' for k in range(n)), f'"a":{empty[:-1]},"b":' + "[" * n + "]" * n + "}",
             f'"a":{empty.replace("[0]", "[" + "0," * n + "0]")}', f'"{word * n}":{empty}', f'"{word * n}x":{empty},' * 9,
             f'"a":{empty},' * n + f'"a":{empty}', '"__metadata__":{"a":"' + word * n + '"}', '"__metadata__":{"a":' + "[" * n,
             '"__metadata__":{' + ",".join(f'"{k}":"{word}z"' for k in range(n)) + "}"][rng.integers(9)]
    text = ("{" + facts + "}" + " " * int(rng.choice([0, n]))).encode()
    return struct.pack("<Q", len(text)) + text


def lying_notes(rng):
    """A sound safetensors file but for its notes, if those."""
    notes = [None, {}, {"note": "x"}, {"note": None}, {"note": 1}, {"note": ["x"]}, [], "x", 1, {"": "{\""}][rng.integers(10)]
    text = json.dumps({"__metadata__": notes, "a": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    return struct.pack("<Q", len(text)) + text + STORAGE


def lying_npy(rng):
    descr = str(rng.choice(["'<f4'", "'|b1'", "'|O'", "'<M8[s]'", "[('a', '<f4')]", "'<f99'", "'<U9'", "__import__('os')"]))
    shape = str(tuple(any_number(rng) for _ in range(int(rng.choice([0, 1, 2, 70])))))
    if rng.random() < 0.2:
        shape = "(" * int(rng.choice([10, 3000]))
    text = f"{{'descr': {descr}, 'fortran_order': {rng.choice(['False', 'True', '1/0'])}, 'shape': {shape}, }}".encode()
    length = len(text) if rng.random() < 0.7 else HUGE[rng.integers(len(HUGE))] % 2**16
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", length % 2**16) + text + STORAGE
    return zip_of({"a.npy": data}, method=int(rng.choice([0, 8])))


def lying_zip(rng):
    good = io.BytesIO()
    np.save(good, np.zeros(int(rng.choice([10, 10**6]))))
    entries = [("a.npy", good.getvalue())] if rng.random() < 0.5 else [("archive/data.pkl", b"\x80\x02}.")]
    if rng.random() < 0.3:
        entries *= 2
    if rng.random() < 0.3:
        entries += [(f"b{k}.npy", good.getvalue()[:300]) for k in range(100)]
    claims = {entries[0][0]: HUGE[rng.integers(len(HUGE))] % 2**32} if rng.random() < 0.6 else {}
    content = zip_of(entries, method=int(rng.choice([0, 8, 8])), claims=claims)
    if rng.random() < 0.3:  # all entries of the directory point to the first
        at = content.find(b"PK\x01\x02", 1)
        content = bytearray(content)
        while at >= 0:
            content[at + 42:at + 46] = b"\0\0\0\0"
            at = content.find(b"PK\x01\x02", at + 1)
    return bytes(content)


# hostile programs

def hostile(rng):
    """A name that must never be reached, in every way that a pickle has to say it and to call it."""
    module, name = str(rng.choice(HOSTILE)).split(" ")
    command = word("touch hacked")
    push = [named(module, name), word(module) + word(name) + pickle.STACK_GLOBAL,
            b"\x8c" + bytes([len(module)]) + module.encode() + b"\x94\x8c" + bytes([len(name)]) + name.encode() + b"\x94\x93",
            b"c" + f"{module}.{name}".rpartition(".")[0].encode() + b"\n" + name.encode() + b"\n"][rng.integers(4)]
    ours = [named("torch._utils", "_rebuild_parameter") + push + b"N\x87R",
            named("collections", "OrderedDict") + push + b"\x85R"]
    called = [push + pickle.MARK + command + pickle.TUPLE + pickle.REDUCE, push + command + pickle.TUPLE1 + pickle.REDUCE,
              pickle.MARK + command + f"i{module}\n{name}\n".encode(), pickle.MARK + push + command + pickle.OBJ,
              push + command + pickle.TUPLE1 + pickle.NEWOBJ, push + command + pickle.TUPLE1 + b"}" + pickle.NEWOBJ_EX,
              push, push + b"}" + command + b"Ns" + pickle.BUILD, b"\x82\x01", b"\x83\x01\x02", b"\x84\x01\x00\x00\x01",
              b"}" + command + push + b"s" + pickle.BUILD, push + pickle.BINPERSID, f"P{module}\n".encode(),
              *ours][rng.integers(16)]
    good = tree(rng)
    evil = Raw(called)
    thing = [evil, {"w": evil, **good}, {**good, "w": [evil]}, {**good, "args": {"x": evil}}][rng.integers(4)]
    return (zip_pth if rng.random() < 0.5 else legacy_pth)(thing)


def argument(rng, code):
    length = int(rng.integers(9)) if rng.random() < 0.8 else HUGE[rng.integers(len(HUGE))]
    text = b"abcdefgh"[:length % 9]
    match code:
        case b"K" | b"q" | b"h" | b"\x80" | b"\x82":
            return bytes([int(rng.integers(12))])
        case b"M" | b"\x83":
            return rng.bytes(2)
        case b"J" | b"r" | b"j" | b"\x84":
            return struct.pack("<I", (int(rng.integers(12)) if rng.random() < 0.7 else HUGE[rng.integers(len(HUGE))]) % 2**32)
        case b"G":
            return rng.bytes(8)
        case b"\x8a" | b"U" | b"\x8c" | b"C":
            return bytes([length % 256]) + text
        case b"X" | b"T" | b"B" | b"\x8b":
            return struct.pack("<I", length % 2**32) + text
        case b"\x8d" | b"\x8e" | b"\x96" | b"\x95":
            return struct.pack("<Q", length) + text
        case b"c":
            return str(rng.choice(FRIENDLY if rng.random() < 0.9 else HOSTILE)).replace(" ", "\n").encode() + b"\n"
        case b"i":
            return b"os\nsystem\n"
        case b"I" | b"L" | b"F" | b"S" | b"V" | b"P" | b"p" | b"g":
            return [b"1\n", b"'a'\n", b"9" * 5000 + b"\n", b"x\n"][rng.integers(4)]
    return b""


KNOWN = [bytes([code]) for code in b"N\x88\x89KMJG\x8aUX\x8cC)]}(t\x85\x86\x87aesuqr\x94hjc\x93RbQ"]
UNKNOWN = [bytes([code]) for code in b"I0LFSVTBPdlop12giQ\x81\x82\x83\x84\x8b\x8d\x8e\x8f\x90\x91\x92\x95\x96\x97\x98\x00\xff"]


def soup(rng):
    """Random instructions with fitting arguments."""
    code = pickle.PROTO + b"\x02"
    for _ in range(int(rng.choice([3, 10, 40]))):
        instruction = (KNOWN if rng.random() < 0.97 else UNKNOWN)
        instruction = instruction[rng.integers(len(instruction))]
        code += instruction + argument(rng, instruction)
    return wrapped(rng, code + pickle.STOP, {"0": STORAGE} if rng.random() < 0.5 else {})


PARTS = [b"N", b"]", b"}", b")", b"K\x07", b"X\x01\x00\x00\x00k", b"G@\x00\x00\x00\x00\x00\x00\x00", b"\x88"]


def stew(rng):
    """Random instructions that keep the stack sound, so that calls are reached; their arguments are of any kind."""
    def value(depth):
        kind = rng.integers(10) if depth else 0
        if kind < 3:
            return PARTS[rng.integers(len(PARTS))]
        if kind == 3:
            return b"(" + b"".join(value(depth - 1) for _ in range(rng.integers(4))) + b"t"
        if kind == 4:
            return b"](" + b"".join(value(depth - 1) for _ in range(rng.integers(4))) + b"e"
        if kind == 5:
            key = word("k") if rng.random() < 0.8 else value(1)
            return b"}(" + b"".join(key + value(depth - 1) for _ in range(rng.integers(4))) + b"u"
        if kind == 6:
            return value(depth - 1) + value(depth - 1) + b"b"
        if kind == 7:
            return program(View("0", 64, 0, (3, 2), (2, 1)), {})
        return (named(*str(rng.choice(FRIENDLY)).split(" ")) + b"(" + b"".join(value(depth - 1) for _ in range(rng.integers(8)))
                + b"tR")
    code = pickle.PROTO + b"\x02" + b"}" + b"".join(word(f"k{k}") + value(4) + b"s" for k in range(3)) + pickle.STOP
    return wrapped(rng, code, {"0": STORAGE})


def bomb(rng):
    """A little program that makes much, or goes deep."""
    n = int(rng.choice([100, 5000, 100_000, 600_000], p=[0.4, 0.2, 0.35, 0.05]))
    body = [b"]" * n, b"}" * n, b"(" * n, b")" + b"\x85" * n, b"N" + b"\x94" * n, b"](" + b"K\x01" * n + b"e", b"\x80\x02" * n,
            b"N" + b"r\xff\xff\xff\x7f", b"}(" + b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(n // 4)) + b"u",
            b"]q\x00" + b"(h\x00h\x00h\x00e" * (n // 8), b"]" + b"]" * n + b"a" * n, b"N" + b"2" * n,
            b"}" + b"N" + b"\x85" * n + b"Ns",
            b"X" + struct.pack("<I", n) + b"a" * n, b"X\xff\xff\xff\xff" + b"a" * 50, b"\x8d" + b"\xff" * 8,
            b"\x95" + b"\xff" * 8 + b"N", b"(" + b"](K\x01K\x02K\x03e" * (n // 10) + b"t",
            b"X" + struct.pack("<I", n // 4 * 4) + "\U0001F600".encode() * (n // 4),
            b"](" + b"](K\x01K\x02e" * (n // 10) + b"e" + b"q\x01" + (named("collections", "OrderedDict") + b"h\x01\x85R") * 50,
            b"(" + b"}K\x01Ns" * (n // 5) + b"t", b"(" + b"]Na" * (n // 3) + b"t", b"(" + b"M\x07\x07" * (n // 3) + b"t",
            b"X" + struct.pack("<I", n) + b"a" * (n - 4) + "\U0001F600".encode(), b"(" + b"U\x02ab" * (n // 4) + b"t",
            b"(" + named("collections", "OrderedDict") + b"q\x00" + b"h\x00)R" * (n // 4) + b"t", b"N" * (8 * n),
            ][rng.integers(27)]
    return wrapped(rng, pickle.PROTO + b"\x02" + body + pickle.STOP, {})


def many_calls(rng):
    """Many calls of one memoised tuple: five bytes make a tensor, which is much larger where it has many axes.

    Only arrays lie on the stack, so that a search for a word finds none. The largest file has 250 kB.
    """
    n, axes = int(rng.choice([10, 1000, 50_000], p=[0.5, 0.45, 0.05])), int(rng.choice([1, 4, 64]))
    size = tuple(int(k) for k in rng.permutation([int(rng.integers(2))] + [1] * (axes - 1)))
    tensor = program(View("0", 64, 0, size, (1,) * axes), {})
    function = named("torch._utils", "_rebuild_tensor_v2")
    arguments = tensor.removeprefix(function).removesuffix(pickle.REDUCE)
    code = function + b"q\x00" + arguments + b"q\x01" + b"R" + b"h\x00h\x01R" * n
    return wrapped(rng, pickle.PROTO + b"\x02" + code + pickle.STOP, {"0": STORAGE})


MAKERS = [damaged, damaged, damaged_program, damaged_program, lying_tensor, near_tensor, expanded_tensor, lying_header,
          long_header, lying_notes, lying_npy, lying_zip, hostile, hostile, soup, stew, stew, bomb, many_calls]


# one try

FORBIDDEN = ("os.", "subprocess.", "socket.", "exec", "compile", "import", "pickle.", "ctypes.", "shutil.", "webbrowser.",
             "pty.", "code.", "marshal.", "urllib.", "tempfile.", "glob.")
watching, seen, beyond = [False], [], [0]
REFUSED = object()


def watch(event, arguments):
    if watching[0] and (event.startswith(FORBIDDEN) or (event == "open" and arguments[1] not in ("r", "rb", None))):
        seen.append((event, str(arguments)[:100]))


def allowed_memory(nbytes):
    """4 times the file, and a footing of 1 MiB: an interpreter cannot open a file of 20 bytes in 80."""
    return 4 * nbytes + MEBI


def attempt(path, content, read):
    """None, or what went wrong."""
    path.write_bytes(content)
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    watching[0], result = True, REFUSED
    try:
        result = read(path)
    except ValueError as error:
        text = str(error)
        if not text.startswith(f"{read.__name__}: {path}: ") or "\n" in text or len(text) > 600:
            return f"an error that is none of ours: {text[:300]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        watching[0] = False
    took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    beyond[0] = max(beyond[0], peak - 4 * len(content))
    if seen:
        return f"it did something: {seen}"
    if peak > allowed_memory(len(content)):
        return f"took {peak} bytes of memory for a file of {len(content)}"
    if took > 2 + len(content) / 50_000:
        return f"took {took:.1f} s"
    if sorted(os.listdir()) != [path.name]:
        return f"left files: {sorted(os.listdir())}"
    if result is REFUSED:
        return None
    if read.__name__ == "read_metadata":
        sound = type(result) is dict and all(type(part) is str for item in result.items() for part in item)
        return None if sound else f"gave {result!r}"[:200]
    return wrong(result, len(content)) if read.__name__ == "load" else None


def wrong(arrays, nbytes):
    if type(arrays) is not dict:
        return f"gave a {type(arrays).__name__}"
    for name, x in arrays.items():
        if type(name) is not str or not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub" or not x.dtype.isnative:
            return f"gave {name!r}: {x!r}"[:200]
        if len(x.tobytes()) != x.nbytes or not x.flags.writeable or (x.dtype == bool and x.view(np.uint8).max(initial=0) > 1):
            return f"gave an array that is not sound: {name!r}"
    if sum(x.nbytes for x in arrays.values()) > 4 * nbytes:
        return "gave arrays of more than 4 times the file"
    return None


def main(tries, seed, first=0):
    from minidl.interop import load, read_metadata, read_pth
    path = Path("weights.bin")
    for good in GOOD * 3:  # what is imported late is imported now
        path.write_bytes(good(np.random.default_rng(0)))
        load(path)
        read_metadata(path)
    tracemalloc.start()
    sys.addaudithook(watch)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 512 * MEBI, used + 512 * MEBI))  # bounds what tracemalloc cannot see, too
    counts = {"arrays": 0, "refused": 0}
    for k in range(first, first + tries):
        rng = np.random.default_rng((seed, k))
        maker = MAKERS[k % len(MAKERS)]
        content = maker(rng)
        read = (load, load, load, read_pth, read_metadata)[rng.integers(5)]
        if maker in (long_header, lying_notes) and rng.random() < 0.5:
            read = read_metadata
        problem = attempt(path, content, read)
        if problem:
            print(f"seed {seed}, try {k} ({maker.__name__}, {read.__name__}, {len(content)} bytes): {problem}")
            print(content[:300])
            return 1
        try:
            read(path)
            counts["arrays"] += 1
        except ValueError:
            counts["refused"] += 1
    print(f"seed {seed}: {tries} files, {counts['arrays']} gave arrays, {counts['refused']} were refused; "
          f"memory at most 4 times the file and {beyond[0] / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
