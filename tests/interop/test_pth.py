"""PyTorch's files without PyTorch: what is read, what is refused and why. With PyTorch: the same numbers, bit by bit."""
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from pth_writer import Raw, View, legacy_pth, named, program, word, zip_of, zip_pth

from minidl.interop import load, read_pth
from minidl.interop.pth import MAGIC

DTYPES = ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
SHAPES = [(), (0,), (1,), (7,), (2, 3), (0, 5), (2, 1, 3, 4)]
FORMS = [zip_pth, legacy_pth]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


def put(tmp_path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    return path


def equal(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    assert got.tobytes() == want.tobytes()
    assert got.flags.writeable


@each_form
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_comes_back(form, dtype, tmp_path):
    rng = np.random.default_rng(0)
    state = {f"layer{k}.weight": rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
             for k, shape in enumerate(SHAPES)}
    got = read_pth(put(tmp_path, form(state)))
    assert list(got) == list(state)
    for name in state:
        equal(got[name], state[name])


@each_form
def test_a_checkpoint_keeps_its_nesting(form, tmp_path):
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = {"epoch": 3, "best": 0.25, "name": "net é", "done": True, "nothing": None, "big": 2**70, "state_dict": {"w": w},
            "optimizer": {"state": {0: {"step": np.array(4.0, np.float32)}}, "groups": [{"lr": -0.5, "betas": (0.9, 0.99)}]}}
    path = put(tmp_path, form(tree))
    got = read_pth(path)
    equal(got["state_dict"].pop("w"), w)
    equal(got["optimizer"]["state"][0].pop("step"), np.array(4.0, np.float32))
    tree["state_dict"], tree["optimizer"]["state"][0] = {}, {}
    assert got == tree
    equal(load(path)["w"], w)


def test_any_folder_name_and_either_byte_order(tmp_path):
    w = np.arange(3, dtype=np.float32)
    big = {"w": View("0", 3, 0, (3,), (1,))}
    path = put(tmp_path, zip_pth(big, {"0": w.astype(">f4").tobytes()}, folder="my net", byteorder=b"big"))
    equal(read_pth(path)["w"], w)
    with pytest.raises(ValueError, match="must say little or big"):
        read_pth(put(tmp_path, zip_pth(big, {"0": w.tobytes()}, byteorder=b"middle")))


@each_form
def test_views_strides_and_shared_storages(form, tmp_path):
    x = np.arange(24, dtype=np.float32)
    views = {"all": View("0", 24, 0, (24,), (1,)), "transposed": View("0", 24, 0, (4, 6), (1, 4)),
             "part": View("0", 24, 5, (2, 3), (6, 2)), "expanded": View("0", 24, 7, (3, 2), (0, 1)),
             "one": View("0", 24, 23, (), ()), "lone stride": View("0", 24, 23, (1, 1), (2**62, 2**200))}
    got = load(put(tmp_path, form(views, {"0": x.tobytes()})))
    equal(got["all"], x)
    equal(got["transposed"], x.reshape(6, 4).T.copy())
    equal(got["part"], np.array([[5, 7, 9], [11, 13, 15]], np.float32))
    equal(got["expanded"], np.array([[7, 8]] * 3, np.float32))
    equal(got["one"], np.array(23, np.float32))
    equal(got["lone stride"], np.array([[23]], np.float32))
    got["all"][:] = 0
    assert got["part"][0, 0] == 5, "arrays of one storage must not share memory"


@each_form
def test_bfloat16_is_widened_exactly_and_booleans_are_0_or_1(form, tmp_path):
    x = np.array([1.5, -2.0, np.inf, 0.0, 2.0**-130], np.float32)  # exact in bfloat16, the last subnormal
    raw = {"0": (x.view(np.uint32) >> 16).astype("<u2").tobytes(), "1": b"\x00\x01\x07"}
    views = {"x": View("0", 5, 0, (5,), (1,), "torch BFloat16Storage"),
             "mask": View("1", 3, 0, (3,), (1,), "torch BoolStorage")}
    got = load(put(tmp_path, form(views, raw, **({"numels": {"0": 5, "1": 3}} if form is legacy_pth else {}))))
    equal(got["x"], x)
    equal(got["mask"], np.array([False, True, True]))


X = {"0": np.arange(6, dtype=np.float32).tobytes()}


@each_form
@pytest.mark.parametrize("view", [
    View("0", 6, 0, (7,), (1,)), View("0", 6, 1, (6,), (1,)), View("0", 6, 6, (), ()), View("0", 6, -1, (2,), (1,)),
    View("0", 6, 0, (2, 2), (5, 1)), View("0", 6, 0, (2, 2), (2**63, 1)), View("0", 6, 0, (2**62, 2**62), (0, 0)),
    View("0", 6, 5, (2,), (-1,)), View("0", 6, 0, (-2,), (1,)), View("0", 6, 0, (2,), (1, 1)), View("0", 6, 2**64, (1,), (1,)),
    View("0", 6, 0, (1,) * 65, (0,) * 65), View("0", 6, 0, (0, 2**62), (1, 1)), View("0", 6, 7, (0,), (1,)),
    View("0", 6, 0.0, (2,), (1,)), View("0", 6, 0, (True,), (1,)), View("0", 6, 0, [2], (1,)), View("0", 6, 0, "ab", (1, 1)),
], ids=str)
def test_a_tensor_outside_its_storage_is_named_and_refused(form, view, tmp_path):
    with pytest.raises(ValueError, match="tensor 'conv.weight': "):
        load(put(tmp_path, form({"conv.weight": view}, X)))


@each_form
@pytest.mark.parametrize("numel", [5, 7, 2**61, -1, 2**200, 6.0, None])
def test_a_storage_that_is_not_what_is_claimed_is_refused(form, numel, tmp_path):
    with pytest.raises(ValueError, match="storage"):
        load(put(tmp_path, form({"w": View("0", numel, 0, (2,), (1,))}, X)))


@each_form
def test_an_expanded_tensor_may_not_outgrow_its_file(form, tmp_path):
    view = View("0", 6, 0, (10_000_000,), (0,))
    with pytest.raises(ValueError, match=r"arrays of more than \d+ bytes, 4 times its size.*save tensor.clone\(\)"):
        load(put(tmp_path, form({"w": view}, X)))


def call(module, name, *arguments):
    return Raw(named(module, name) + program(arguments, {}) + pickle.REDUCE)


@each_form
@pytest.mark.parametrize(("thing", "words"), [
    (call("torch.nn.modules.linear", "Linear"), r"whole model \(class 'torch.nn.modules.linear.Linear'\); load it"),
    (call("__main__", "Net"), r"whole model \(class '__main__.Net'\).*save model.state_dict\(\)"),
    ({"args": call("argparse", "Namespace")}, "names 'argparse.Namespace'.*nothing was imported or run"),
    ({"x": call("os", "system", "true")}, "names 'os.system'"),
    (call("posix", "system", "true"), "names 'posix.system'"),
    (call("builtins", "eval", "1"), "names 'builtins.eval'"),
    ({"q": call("torch._utils", "_rebuild_qtensor")}, "holds quantized tensors"),
    ({"q": call("torch._utils", "_rebuild_sparse_tensor")}, "holds sparse tensors"),
    ({"q": View("0", 3, 0, (3,), (1,), "torch ComplexFloatStorage")}, r"holds complex numbers \('torch.ComplexFloatStorage'\)"),
    ({"q": call("torch._utils", "_rebuild_tensor_v2", 1, 2)}, "with arguments that do not fit"),
    ({"q": call("numpy", "dtype", "O", False, True)}, "numpy.dtype with arguments that do not fit"),
    ({"q": Raw(word("os") + word("system") + pickle.STACK_GLOBAL)}, "names 'os.system'"),
    ({"q": Raw(b"(ios\nsystem\n")}, "instruction INST"),
    ({"q": Raw(b"\x82\x01")}, "instruction EXT1"),
    ({"q": Raw(pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.REDUCE)}, "calls what is no function"),
    ({"q": Raw(word("torch.Size") + pickle.EMPTY_TUPLE + pickle.REDUCE)}, "calls what is no function"),
    ({"q": Raw(b"Pabc\n")}, "instruction PERSID"),
    ({(1, 2): 3}, "keys must be names or numbers"),
    ({2**61 - 1: 3}, "keys must be names or numbers"),
], ids=str)
def test_what_is_no_weights_is_refused_by_name(form, thing, words, tmp_path):
    with pytest.raises(ValueError, match=words) as caught:
        load(put(tmp_path, form(thing, X)))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("load: ")


def test_what_checkpoints_of_all_ages_hold_is_understood(tmp_path):
    double = Raw(call("numpy", "dtype", "f8", False, True) + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
    raw = call("_codecs", "encode", struct.pack("<d", 0.5).decode("latin-1"), "latin1")
    thing = {"accuracy": call("numpy._core.multiarray", "scalar", double, raw),
             "milestones": call("collections", "Counter", {3: 1}),
             "size": call("torch", "Size", (2, 3)), "device": call("torch", "device", "cuda", 0),
             "dtype": Raw(named("torch", "float32")),
             "python2": Raw(named("collections", "OrderedDict") + b"(](](U\x01aK\x01eetR}U\x01mK\x01sb"),
             "parameter": call("torch._utils", "_rebuild_parameter", View("0", 6, 0, (6,), (1,)), True, {}),
             "old parameter": Raw(call("torch.nn.parameter", "Parameter", View("0", 6, 0, (6,), (1,))) + b"\x88\x89N\x87b")}
    got = read_pth(put(tmp_path, zip_pth(thing, X)))
    for name in ("parameter", "old parameter"):
        equal(got.pop(name), np.arange(6, dtype=np.float32))
    assert got == {"accuracy": 0.5, "milestones": {3: 1}, "size": (2, 3), "device": "cuda", "dtype": "torch.float32",
                   "python2": {"a": 1}}


def test_a_million_nested_lists_or_entries_end_in_an_error(tmp_path):
    for bomb in (b"]" * 2**20, b"(" * 2**20, b"]" + b"\x94" * 2**20, b"N" + b"\x85" * 2**20, b"}(" + b"K\x01N" * 2**20 + b"u",
                 b"]" + b"Na" * 2**20):
        with pytest.raises(ValueError, match="arrays and objects of more than|takes from the stack"):
            load(put(tmp_path, zip_pth(Raw(bomb))))


def test_nesting_of_any_depth_is_no_recursion(tmp_path):
    deep = Raw(b"N" + b"\x85" * 100_000)  # 48 bytes each: numbers beside them pay for it
    assert type(read_pth(put(tmp_path, zip_pth({"deep": deep, "w": np.zeros(200_000)})))["deep"]) is tuple
    with pytest.raises(ValueError, match="keys must be"):
        read_pth(put(tmp_path, zip_pth({"w": np.zeros(200_000), "a dict": Raw(b"}" + deep + b"Ns")})))


@each_form
@pytest.mark.parametrize(("axes", "paid"), [(1, True), (1, False), (64, False)])
def test_many_calls_of_one_tuple_cost_no_more_than_the_file_may(form, axes, paid, tmp_path):
    """The tensors are empty, so that they cost nothing in numbers; no word lies on the stack to name them."""
    view = program(View("0", 6, 0, (0,) + (1,) * (axes - 1), (1,) * axes), {})
    function = named("torch._utils", "_rebuild_tensor_v2")
    arguments = view.removeprefix(function).removesuffix(pickle.REDUCE)
    calls = Raw(b"(" + function + b"q\x00" + arguments + b"q\x01R" + b"h\x00h\x01R" * 20_000
                + (program(View("1", 2 * 10**6, 0, (1,), (1,)), {}, form is legacy_pth) if paid else b"") + b"t")
    path = put(tmp_path, form(calls, {**X, "1": bytes(8 * 10**6)} if paid else X))
    tracemalloc.start()
    start = time.process_time()
    try:
        assert len(read_pth(path)) == 20_002 and paid
    except ValueError as error:
        assert "arrays and objects of more than" in str(error) and not paid
    took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 4 * path.stat().st_size + 2**20
    assert took < 2 + path.stat().st_size / 50_000  # the fuzzer's bound


def as_torch_writes(state, storages, legacy):
    """The program of a state dict with the memo that Python's pickler makes: what is new goes onto a shelf, words come back."""
    shelves = {}

    def new(code):
        shelves[len(shelves), code] = len(shelves)
        return code + b"r" + struct.pack("<I", len(shelves) - 1)

    def once(code):
        if code in shelves:
            return b"j" + struct.pack("<I", shelves[code])
        shelves[code] = len(shelves)
        return code + b"r" + struct.pack("<I", shelves[code])

    def number(n):
        return b"K" + bytes([n]) if n < 256 else b"J" + struct.pack("<i", n)

    def numbers(row):
        return new(b"(" + b"".join(map(number, row)) + b"t") if row else b")"

    empty_dict = named("collections", "OrderedDict")
    parts = [once(empty_dict) + new(b")R") + b"("]
    for name, x in state.items():
        key = str(len(storages))
        storages[key] = x.tobytes()
        pid = (b"(" + once(word("storage")) + once(named("torch", "FloatStorage")) + new(word(key)) + once(word("cpu"))
               + number(x.size) + b"N" * legacy)
        parts.append(
            new(word(name)) + once(named("torch._utils", "_rebuild_tensor_v2")) + b"(" + new(pid + b"t") + b"QK\x00"
            + numbers(x.shape) + numbers([n // 4 for n in x.strides]) + b"\x89" + once(empty_dict) + new(b")R")
            + new(b"t") + new(b"R"))
    return Raw(b"".join(parts) + b"u")


@each_form
def test_three_thousand_tensors_of_a_usual_network_are_read(form, tmp_path):
    """Narrow convolutions and their batch norms, under names of usual length."""
    shapes = {"conv.weight": (16, 16, 3, 3), "bn.weight": (16,), "bn.bias": (16,), "bn.running_mean": (16,),
              "bn.running_var": (16,)}
    state = {f"backbone.body.layer4.{k}.{name}": np.full(shape, k, np.float32)
             for k in range(600) for name, shape in shapes.items()}
    storages = {}
    thing = as_torch_writes(state, storages, form is legacy_pth)
    got = load(put(tmp_path, form(thing, storages)))
    assert got.keys() == state.keys() and len(got) == 3000
    for name in state:
        equal(got[name], state[name])


@pytest.mark.parametrize(("content", "words"), [
    (zip_of({"a/data.pkl": b"\x80\x02}.", "b/data.pkl": b"\x80\x02}."}), "must have one program"),
    (zip_of({"a/data.pkl": b"\x80\x02}.x"}), "bytes behind the end"),
    (zip_of({"a/data.pkl": b"\x80\x02}."}, method=8), "packed entries"),
    (zip_of({"a/data.pkl": b"\x80\x02}.", "a/constants.pkl": b""}), "TorchScript"),
    (zip_of([("a/data.pkl", b"\x80\x02}."), ("a/data.pkl", b"\x80\x02}.")]), "two entries"),
    (zip_of({"a/data.pkl": b"\x80\x02}."}, claims={"a/data.pkl": 10**6}), "neither PyTorch nor NumPy"),
    (zip_of({"readme.txt": b"hello"}), "of neither PyTorch nor NumPy"),
    (zip_of({"a/data.pkl": b"\x80\x02}."}) + b"x", "too early or too late"),
    (zip_of({"a/data.pkl": b"\x80\x02}."})[:-3], "too early or too late"),
    (zip_of({"a/data.pkl": b"\x80\x02}."}).replace(b"\x80\x02}.", b"\x80\x02).", 1), "checksum differs"),
    (pickle.dumps({"a": 1}, 2), "plain pickle"),
    (legacy_pth({"w": np.zeros(3)})[:-1], "cut off"),
    (legacy_pth({"w": np.zeros(3)}) + b"x", "behind the last"),
    (legacy_pth({"w": np.zeros(3)}, numels={"0": 4}), "differs from what its program says"),
    (pickle.dumps(MAGIC, 2) + pickle.dumps(1002, 2), "does not begin as torch.save"),
    (pickle.dumps(MAGIC, 2), "cut off"),
])
def test_a_damaged_container_says_what_is_wrong(content, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load(put(tmp_path, content))


def test_entries_inside_other_entries_are_refused(tmp_path):
    """How a zip of megabytes claims petabytes: every entry is a part of the next."""
    inner = zip_of({"b.npy": b"x" * 50})
    record, entry = inner[:inner.find(b"PK\x01\x02")], inner[inner.find(b"PK\x01\x02"):-22]
    outer = zip_of({"a.npy": record})
    body, directory = outer[:outer.find(b"PK\x01\x02")], outer[outer.find(b"PK\x01\x02"):-22]
    directory += entry[:42] + struct.pack("<I", body.find(record)) + entry[46:]
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(body), 0)
    with pytest.raises(ValueError, match="entries that overlap"):
        load(put(tmp_path, body + directory + end))


def test_a_zip_with_wide_numbers_is_read(tmp_path, monkeypatch):
    """Archives of more than 4 GiB say their sizes in other records; here a small one does."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1)
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/version", b"3\n")
    assert path.read_bytes().count(b"\x01\x00\x10\x00") >= 1, "no entry has the wide numbers"
    assert load(path) == {}


def test_read_pth_of_another_form_says_so(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match=r"read_pth: .*but is a NumPy .npz file; minidl.load reads that"):
        read_pth(tmp_path / "x.npz")


# with PyTorch

def saved(tmp_path, thing, legacy, protocol=2):
    import torch
    path = tmp_path / "net.pth"
    torch.save(thing, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return path


legacy_or_zip = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.mark.oracle
@legacy_or_zip
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_net_and_its_checkpoint_come_back_bit_equal(legacy, protocol, tmp_path):
    import torch
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (2, 3)), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    net(torch.randn(2, 3, 8, 7)).sum().backward()
    optimizer.step()
    state = net.state_dict()
    got = load(saved(tmp_path, state, legacy, protocol))
    assert list(got) == list(state)
    for name in state:
        equal(got[name], state[name].numpy())
    assert got["1.num_batches_tracked"] == 1 and got["1.num_batches_tracked"].shape == ()
    checkpoint = {"epoch": 3, "model_state_dict": state, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                  "best": np.float64(0.75), "seen": np.int64(5), "raw": b"\x00\xff"}
    path = saved(tmp_path, checkpoint, legacy, protocol)
    tree = read_pth(path)
    equal(tree["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"].numpy())
    assert tree["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    assert (tree["best"], tree["seen"], tree["raw"], tree["epoch"]) == (0.75, 5, b"\x00\xff", 3)
    assert tree["schedule"]["milestones"] == {3: 1, 5: 1}
    assert list(load(path)) == list(state)


@pytest.mark.oracle
@legacy_or_zip
def test_tensors_of_every_kind_come_back_bit_equal(legacy, tmp_path):
    import torch
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5)
    tensors = {"transposed": x.permute(2, 0, 1), "stepped": x[::2, 1:5:3], "row": x[1], "shared": x, "scalar": torch.tensor(3),
               "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), "empty": torch.zeros(0, 3),
               "expanded": x[0, :1].expand(3, 5), "parameter": torch.nn.Parameter(torch.randn(3)),
               "half": torch.randn(5).half(), "bool": torch.tensor([True, False]), "grad": torch.randn(2, requires_grad=True),
               **{str(dtype): torch.arange(5).to(dtype) for dtype in (
                   torch.uint8, torch.int8, torch.int16, torch.int32, torch.float64, torch.uint16, torch.uint32, torch.uint64)}}
    got = load(saved(tmp_path, tensors, legacy))
    for name, tensor in tensors.items():
        equal(got[name], np.asarray(tensor.detach().numpy(), order="C"))


@pytest.mark.oracle
@legacy_or_zip
def test_every_bfloat16_becomes_the_float32_that_pytorch_makes_of_it(legacy, tmp_path):
    import torch
    x = torch.arange(-2**15, 2**15).to(torch.int16).view(torch.bfloat16)
    got = load(saved(tmp_path, {"x": x, "t": x.reshape(256, 256).T}, legacy))
    want = x.float().numpy()
    assert got["x"].dtype == np.float32
    np.testing.assert_array_equal(got["x"], want)
    np.testing.assert_array_equal(got["t"], want.reshape(256, 256).T)


@pytest.mark.oracle
@legacy_or_zip
def test_what_pytorch_saves_but_weights_are_not_is_refused(legacy, tmp_path):
    import argparse

    import torch
    for thing, words in [
            (torch.nn.Linear(2, 2), "whole model .class 'torch.nn.modules.linear.Linear'"),
            ({"model": torch.nn.Linear(2, 2)}, "whole model"), ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
            ({"c": torch.zeros(2, dtype=torch.complex64)}, "complex numbers"),
            ({"s": torch.eye(2).to_sparse()}, "sparse tensors"),
            ({"f": torch.zeros(2, dtype=torch.float8_e4m3fn)}, "8-bit floats"),
            ({"x": torch.zeros(1).expand(1000, 1000)}, "expanded"), ({"m": torch.zeros(2, device="meta")}, "without numbers")]:
        with pytest.raises(ValueError, match=words):
            load(saved(tmp_path, thing, legacy))


@pytest.mark.oracle
def test_files_without_checksums_are_read(tmp_path):
    import torch
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        equal(load(saved(tmp_path, {"x": torch.arange(5)}, False))["x"], np.arange(5))
    finally:
        torch.serialization.set_crc32_options(before)
