"""ONNX files: onnxruntime gets minidl's numbers from them, operation by operation and network by network."""
import itertools

import numpy as np
import pytest
from cases import cases
from hypothesis import HealthCheck, given, settings

import minidl
from minidl import Tensor, apply, concat, models, nn, no_grad, ops, pad, stack
from minidl.arithmetic.elementwise import Where
from minidl.function import Function
from minidl.interop import export_onnx, onnx_export
from minidl.interop.onnx_table import TRANSLATIONS
from minidl.ops import OPS

INSTALL = "pip install -c constraints.txt -e '.[test,test-onnx]'"
onnx = pytest.importorskip("onnx", reason=f"compares with ONNX: {INSTALL}")
onnxruntime = pytest.importorskip("onnxruntime", reason=f"runs ONNX files: {INSTALL}")

OPERATION, NETWORK = 1e-5, 1e-4  # of the largest number in the output; float32 carries 6e-8
NOT_EXPORTED = {Where, ops.CrossEntropy, ops.MSE, ops.Im2Col, ops.Col2Im, ops.BatchNorm, ops.Dropout}


class Does(nn.Module):
    """A module around a function of (module, images), with parameters p0, p1, ..."""

    def __init__(self, function, *parameters):
        self.function = function
        for i, p in enumerate(parameters):
            setattr(self, f"p{i}", nn.Parameter(p))

    def forward(self, x):
        return self.function(self, x)


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"images": x})[0]


def assert_same(net, path, x, tolerance=OPERATION, what=""):
    with no_grad():
        want = net(Tensor(x)).numpy()
    got = run(path, x)
    assert got.shape == want.shape and got.dtype == np.float32, f"{what}: {got.dtype} {got.shape}, minidl gives {want.shape}"
    error = abs(got - want).max(initial=0) / max(abs(want).max(initial=0), 1e-30)
    assert error <= tolerance, f"{what}, images {x.shape}: off by {error:.1e}"


def images(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- operations ----------------------------------------------------------------------------------------------------------


def test_every_operation_is_in_the_table_or_left_out_on_purpose():
    assert set(TRANSLATIONS) == set(OPS) - NOT_EXPORTED


def net_of(op, case):
    """A net of this one operation: the first input is the images, the others are parameters."""
    x, *others = case.inputs_as(np.float32)
    return x, Does(lambda self, x: apply(op(**case.options), x, *self.parameters()), *others)


def is_exportable(x, case):
    index = case.options.get("index")
    parts = index if isinstance(index, tuple) else (index,)
    arrays = any(isinstance(part, (list, np.ndarray)) for part in parts)
    return x.ndim > 1 and all(0 not in a.shape for a in case.inputs) and not arrays


@pytest.mark.parametrize("op", [op for op in TRANSLATIONS if op.name != "astype"], ids=lambda op: op.__name__)
def test_every_operation_gives_minidls_numbers(op, tmp_path):
    path, tried = tmp_path / "net.onnx", 0

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(cases(op, "exact"))
    def check(case):
        nonlocal tried
        x, net = net_of(op, case)
        if is_exportable(x, case):
            tried += 1
            export_onnx(net, path, x.shape[1:], batch=len(x))
            assert_same(net, path, x, what=f"{op.__name__} {case.options}")

    check()
    assert tried >= 8, "too few of the drawn cases are ones that ONNX can hold"


IMAGES = [ops.Conv2d, ops.ConvTranspose2d, ops.MaxPool2d, ops.AvgPool2d, ops.AdaptiveAvgPool2d, ops.LRN, ops.BatchNormEval,
          ops.Crop]


@pytest.mark.parametrize("op", IMAGES, ids=lambda op: op.__name__)
def test_operations_on_images_take_any_number_of_them(op, tmp_path):
    path = tmp_path / "net.onnx"

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(cases(op, "exact"))
    def check(case):
        x, net = net_of(op, case)
        if is_exportable(x, case):
            export_onnx(net, path, x.shape[1:])
            for n in (1, 4):
                assert_same(net, path, images(n, n, *x.shape[1:]), what=f"{op.__name__} {case.options}")

    check()


POOLS = [nn.MaxPool2d, nn.AvgPool2d, lambda *a, **o: nn.AvgPool2d(*a, **o, count_include_pad=False)]


@pytest.mark.parametrize("pool", POOLS, ids=["max", "average", "average without padding"])
def test_pooling_in_ceil_mode_has_minidls_windows_at_every_size(pool, tmp_path):
    """A window that starts in the padding is dropped, one that sticks out is not; ONNX's own rule is another."""
    geometries = [(n, k, s, p) for n, k, s in itertools.product(range(1, 7), (1, 2, 3), (1, 2, 3)) for p in range(k // 2 + 1)
                  if n + 2 * p - k > -s]  # the others have no window at all
    path = tmp_path / "net.onnx"
    for i, (H, KH, SH, PH) in enumerate(geometries):
        W, KW, SW, PW = geometries[(7 * i + 3) % len(geometries)]
        net = pool((KH, KW), (SH, SW), (PH, PW), ceil_mode=True)
        export_onnx(net, path, (2, H, W))
        assert_same(net, path, images(i, 1, 2, H, W), what=repr(net))


WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
SHARED = nn.Linear(6, 6)
FORWARDS = {  # name: (a function of (module, images), the shape of one image, parameters)
    "flatten": (lambda m, x: nn.Flatten()(x), (2, 3, 4)),
    "reshape with len(x)": (lambda m, x: x.reshape(len(x), 6, 4), (2, 3, 4)),
    "reshape with the rest in front": (lambda m, x: x.reshape(-1, 4), (2, 3, 4)),
    "reshape with the rest behind": (lambda m, x: x.reshape(x.shape[0], -1), (2, 3, 4)),
    "reshape that merges batch and channels": (lambda m, x: x.reshape(len(x) * 2, 3, 4), (2, 3, 4)),
    "transpose to channels last": (lambda m, x: x.transpose(0, 2, 3, 1), (2, 3, 4)),
    "transpose with negative axes": (lambda m, x: x.transpose(0, -1, 1, 2), (2, 3, 4)),
    "transpose to batch last": (lambda m, x: x.T, (2, 3)),
    "linear on vectors": (lambda m, x: ops.linear(x, m.p0, m.p1), (4,), WEIGHT, WEIGHT[:, 0]),
    "linear without bias": (lambda m, x: ops.linear(x, m.p0), (4,), WEIGHT),
    "linear on rows": (lambda m, x: ops.linear(x, m.p0, m.p1), (2, 4), WEIGHT, WEIGHT[:, 0]),
    "linear on rows without bias": (lambda m, x: ops.linear(x, m.p0), (2, 3, 4), WEIGHT),
    "concat from behind": (lambda m, x: concat([x, 2 * x, x[:, :, :1]], axis=-1), (2, 3)),
    "stack": (lambda m, x: stack([x, -x], axis=1), (2, 3)),
    "stack from behind": (lambda m, x: stack([x, -x, x], axis=-1), (2, 3)),
    "slices": (lambda m, x: x[:, 1:3, ::2, -3:-1], (4, 5, 6)),
    "slices backwards": (lambda m, x: x[:, ::-1, ::-2, 4:1:-1], (4, 5, 6)),
    "slices past the end": (lambda m, x: x[:, -9:2, 3:99], (4, 5)),
    "integers": (lambda m, x: x[:, 1, -1], (4, 5, 6)),
    "integers, slices, new axes": (lambda m, x: x[None, :, 2, None, 1:, None, -2], (4, 5, 6)),
    "an ellipsis": (lambda m, x: x[..., None, :-1], (4, 5)),
    "an ellipsis over nothing": (lambda m, x: x[:, 1, ..., 2], (4, 5)),
    "only colons": (lambda m, x: x[:, :], (4, 5)),
    "the first image": (lambda m, x: x[0], (4, 5)),
    "the last image": (lambda m, x: x[-1], (4, 5)),
    "images backwards": (lambda m, x: x[::-1], (4, 5)),
    "all images but the first, and the first": (lambda m, x: concat([x[1:], x[:1]]), (4, 5)),
    "pad": (lambda m, x: pad(x, ((0, 0), (1, 2), (0, 3)), value=1.5), (2, 3)),
    "crop": (lambda m, x: ops.crop(x, (2, 4), (3, 1)), (2, 5, 6)),
    "numbers on either side": (lambda m, x: 2 * x + 1 - (3 - x) / 4 + (1 / (x * x + 1)), (2, 3)),
    "powers": (lambda m, x: x**3 + x**0 + (x * x + 1) ** -1.5 + 2**x, (2, 3)),
    "a constant array": (lambda m, x: x * WEIGHT, (3, 4)),
    "exp, log, sqrt, tanh": (lambda m, x: ((x.exp() + 1).log() + 1).sqrt() - x.tanh(), (2, 3)),
    "a mean over the batch": (lambda m, x: x - x.mean(axis=0), (2, 3)),
    "sums": (lambda m, x: x.sum(axis=(1, -1), keepdims=True) + x.sum(axis=1, keepdims=True) + x.sum(axis=()), (2, 3)),
    "one number": (lambda m, x: x.sum() + x.max() + x.mean() + x.var(), (2, 3)),
    "maxima and variances": (lambda m, x: x.max(axis=-1) * x.var(axis=(2,)) + x.mean(axis=(), keepdims=True)[..., 0], (2, 3)),
    "no variance": (lambda m, x: x + x.var(axis=()), (2, 3)),
    "softmax over channels": (lambda m, x: ops.softmax(x, 1) + ops.log_softmax(x, -3), (5, 2, 3)),
    "matrix products": (lambda m, x: (x @ m.p0.T) @ m.p0 @ m.p1, (2, 4), WEIGHT, WEIGHT[0]),
    "attention": (lambda m, x: ops.softmax(x @ x.transpose(0, 2, 1) / 2) @ x, (3, 4)),
    "even LRN": (lambda m, x: ops.lrn(x, n=4, alpha=0.5, k=1), (6, 2, 3)),
    "LRN that divides": (lambda m, x: ops.local_response_norm(x, 3, alpha=2, beta=0.5), (6, 2, 3)),
    "LRN over more channels than there are": (lambda m, x: ops.lrn(x, n=7, alpha=0.5), (3, 2, 1)),
    "LRN of vectors": (lambda m, x: ops.lrn(x, n=3, alpha=0.5), (6,)),
    "global pooling": (lambda m, x: ops.adaptive_avg_pool2d(x, 1), (2, 3, 5)),
    "pooling to a divisor": (lambda m, x: ops.adaptive_avg_pool2d(x, (2, 1)), (2, 6, 5)),
    "pooling to any size": (lambda m, x: ops.adaptive_avg_pool2d(x, (4, 3)), (2, 6, 5)),
    "pooling to more": (lambda m, x: ops.adaptive_avg_pool2d(x, (7, 5)), (2, 6, 5)),
    "pooling to the same": (lambda m, x: ops.adaptive_avg_pool2d(x, (6, 5)) + 1, (2, 6, 5)),
    "one layer used twice": (lambda m, x: SHARED(ops.relu(SHARED(x))), (6,)),
    "leaky ReLU with a slope below zero": (lambda m, x: ops.leaky_relu(x, -0.5), (2, 3)),
    "another floating dtype on the way": (lambda m, x: x.astype(np.float64).exp().astype(np.float32), (2, 3)),
    "nothing": (lambda m, x: x, (2, 3)),
    "a detached tensor": (lambda m, x: ops.relu(x).detach() * 2, (2, 3)),
    "a result that is left unused": (lambda m, x: (ops.im2col(x, 2), ops.relu(x))[1], (2, 3, 4)),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_net_gives_minidls_numbers_for_any_number_of_images(name, tmp_path):
    function, shape, *parameters = FORWARDS[name]
    net, path = Does(function, *parameters), tmp_path / "net.onnx"
    export_onnx(net, path, shape)
    for n in (1, 2, 5):
        assert_same(net, path, images(n, n, *shape), what=name)


# --- networks ------------------------------------------------------------------------------------------------------------


def alive(net):
    """The net in evaluation mode, its biases and statistics moved away from 0 and 1, so that each of them shows."""
    rng = np.random.default_rng(len(net.state_dict()))
    for p in net.parameters():
        noise = rng.normal(0, 0.1, p.shape) * (abs(p.numpy()).mean() or 0.1)
        p.data = (p.numpy() + noise).astype(np.float32)
    for name, buffer in net.named_buffers():
        if name.endswith("mean"):
            buffer[...] = rng.normal(0, 0.1, buffer.shape)
        elif name.endswith("var"):
            buffer[...] = rng.uniform(0.8, 1.25, buffer.shape)
    return net.eval()


def small(name):
    """The options with which a net of the zoo is quick to run."""
    if name.startswith("mini"):
        return dict(width=0.5)
    if name.startswith("fcn"):
        return dict(width=1 / 32)
    return dict(width=1 / 4) if "cifar" in name else dict(width=1 / 16, num_classes=7, image_size=96)


# Left out: 1202 layers take long, and after 110 without shortcuts the scores no longer depend on the image.
@pytest.mark.parametrize("name", [name for name in models.ZOO if "1202" not in name and name != "plain110-cifar"])
def test_every_network_gives_minidls_scores(name, tmp_path):
    minidl.manual_seed(0)
    net, path = alive(models.build(name, **small(name))), tmp_path / "net.onnx"
    side = 70 if name.startswith("fcn") else net.image_size
    shape = net.in_channels, side, side + 3 * name.startswith("fcn")
    export_onnx(net, path, shape)
    for n in (1, 3):
        assert_same(net, path, images(n, n, *shape), NETWORK, name)
    with no_grad():
        y = net(Tensor(images(0, 4, *shape))).numpy()
    assert y.std(axis=0).max() > 1e-3 * abs(y).max(), "the scores say nothing of the images, so nothing was compared"


@pytest.mark.parametrize(("name", "options"), [("resnet18", {}), ("googlenet-torchvision", {"transform_input": True})])
def test_a_network_of_full_size_gives_minidls_scores(name, options, tmp_path):
    minidl.manual_seed(0)
    net, path = alive(models.build(name, **options)), tmp_path / "net.onnx"
    made = export_onnx(net, path, (3, 224, 224))
    assert made.size == path.stat().st_size
    assert_same(net, path, images(0, 2, 3, 224, 224), NETWORK, name)


@pytest.mark.parametrize("name", models.MINI_NETS)
def test_the_reference_evaluator_agrees(name, tmp_path):
    from onnx.reference import ReferenceEvaluator
    minidl.manual_seed(0)
    net, path, x = alive(models.MINI_NETS[name](width=0.25)), tmp_path / "net.onnx", images(0, 2, 1, 28, 28)
    export_onnx(net, path, (1, 28, 28))
    (got,) = ReferenceEvaluator(str(path)).run(None, {"images": x})
    want = net(Tensor(x)).numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=NETWORK * abs(want).max(), err_msg=name)


@pytest.mark.parametrize("opset", onnx_export.OPSETS)
def test_every_opset_on_offer_is_written_right(opset, tmp_path):
    """A net of the operators that have changed between opsets."""
    def forward(m, x):
        x = m.norm(ops.avg_pool2d(pad(x, ((0, 0), (0, 0), (1, 0), (0, 1))), 3, 2, 1, ceil_mode=True))
        y = ops.log_softmax(x[:, None, :, 0], 2) - x.mean(axis=(2, 3))[:, None, :, None]
        return y.sum(axis=1) + y.var(axis=1) + x.max(axis=3).sum(axis=2)[:, :1, None]

    net, path = Does(forward), tmp_path / "net.onnx"
    net.norm = nn.BatchNorm2d(2)
    alive(net)
    assert export_onnx(net, path, (2, 6, 8), opset=opset).opset == opset
    assert onnx.load(path).opset_import[0].version == opset
    assert_same(net, path, images(0, 3, 2, 6, 8))


# --- what stands in the file ------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return ops.relu(self.norm(self.conv(x)) + x)


def test_names_are_those_of_the_state_dict_and_of_the_modules(tmp_path):
    net, path = nn.Sequential({"block": Block(), "again": Block(), "drop": nn.Dropout(), "flatten": nn.Flatten(),
                               "fc": nn.Linear(60, 5)}), tmp_path / "net.onnx"
    net.again.conv = net.block.conv  # shared: stored once
    net.block.unused = nn.Linear(3, 3)
    made = export_onnx(alive(net), path, (3, 4, 5))
    model, state = onnx.load(path), net.state_dict()
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    expected = {name for name in state if not name.startswith(("again.conv", "block.unused")) and "tracked" not in name}
    assert set(tensors) == expected | {"flatten.shape"}
    for name in expected:
        np.testing.assert_array_equal(tensors[name], state[name], err_msg=name)
    nodes = [(node.op_type, node.name) for node in model.graph.node]
    assert nodes == [("Conv", "block.conv"), ("BatchNormalization", "block.norm"), ("Add", "block.add"), ("Relu", "block.relu"),
                     ("Conv", "block.conv_2"), ("BatchNormalization", "again.norm"), ("Add", "again.add"),
                     ("Relu", "again.relu"), ("Reshape", "flatten"), ("Gemm", "fc")]
    assert (made.nodes, made.constants) == (len(nodes), len(tensors))
    assert (made.output, made.output_shape) == ("logits", ("N", 5))
    assert model.graph.output[0].name == model.graph.node[-1].output[0] == "logits"


def test_what_does_nothing_in_evaluation_leaves_no_node(tmp_path):
    net = nn.Sequential(nn.Dropout(), nn.ReLU(), nn.AdaptiveAvgPool2d((4, 5)), nn.Identity(), nn.Dropout(0.2))
    export_onnx(net, path := tmp_path / "net.onnx", (3, 4, 5))
    (node,) = onnx.load(path).graph.node
    assert (node.op_type, node.name, *node.input, *node.output) == ("Relu", "1", "images", "scores")
    assert_same(net.eval(), path, images(0, 2, 3, 4, 5))


def test_operations_of_a_module_made_on_the_way_count_as_those_of_the_module_that_made_it(tmp_path):
    net, path = nn.Sequential({"first": nn.Linear(3, 3), "second": Does(lambda m, x: nn.ReLU()(x) + 1)}), tmp_path / "net.onnx"
    export_onnx(net, path, (3,))
    assert [node.name for node in onnx.load(path).graph.node] == ["first", "second", "second_2"]


def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "net.onnx"
    made = export_onnx(nn.Conv2d(3, 4, 3), str(path), (3, 8, 9), metadata={"network": "tiny", "by": "ich"})
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version, made.opset) == (8, 17, 17)
    assert (model.producer_name, model.producer_version, model.graph.name) == ("minidl", minidl.__version__, "Conv2d")
    assert {p.key: p.value for p in model.metadata_props} == {"network": "tiny", "by": "ich"}
    (x,), (y,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (x, y)]
    assert [x.name, y.name, *shapes] == ["images", "scores", ["N", 3, 8, 9], ["N", 4, 6, 7]]
    assert (made.output, made.output_shape) == ("scores", ("N", 4, 6, 7))


def test_a_fixed_batch_may_be_part_of_the_net(tmp_path):
    net, path = Does(lambda m, x: x.sum(axis=0) / len(x)), tmp_path / "net.onnx"
    export_onnx(net, path, (3,), batch=4)
    assert_same(net, path, images(0, 4, 3))
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_a_float64_net_is_rounded_to_float32(tmp_path):
    net, path, x = alive(models.mini_vgg(width=0.25)), tmp_path / "net.onnx", images(0, 2, 1, 28, 28)
    net.to(dtype=np.float64)
    export_onnx(net, path, (1, 28, 28))
    want = net(Tensor(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(run(path, x), want, rtol=0, atol=OPERATION * abs(want).max())


def test_the_net_is_left_as_it_was(tmp_path):
    net = models.mini_vgg(width=0.25)
    net.features[0].eval()
    modes, state = [m.training for m in net.modules()], net.state_dict()
    export_onnx(net, tmp_path / "net.onnx", (1, 28, 28))
    assert [m.training for m in net.modules()] == modes and True in modes and False in modes
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    assert all(p.grad is None for p in net.parameters())


# --- refusals -------------------------------------------------------------------------------------------------------------


class Twice(Function):
    name = "twice"

    def forward(self, x):
        return 2 * x


def other_path(m, x):
    return ops.relu(x) if len(x) == 2 else ops.sigmoid(x)


def batch_squared(x):
    rows = x.reshape(len(x), -1)
    return rows @ rows.T


FROZEN = "depends on the images in the batch"
REFUSED = {  # name: (what forward does, words of the error)
    "an operation of one's own": (lambda m, x: apply(Twice(), x), "the operation twice .module Does. has no ONNX form"),
    "im2col": (lambda m, x: ops.im2col(x, 2), "operation im2col"),
    "a mask from the images": (lambda m, x: minidl.where(x > 0, x, 0.0), "operation where"),
    "a cast of a mask": (lambda m, x: x * (x > 0).astype(np.float32), "is bool, which no parameter is"),
    "a mask over the channels": (lambda m, x: x * (x.mean(axis=(0, 2, 3), keepdims=True) > 0).astype(np.int64),
                                 FROZEN),
    "an index array": (lambda m, x: x[:, [0, 1, 0]], "arrays or masks"),
    "a mask as index": (lambda m, x: x[:, np.array([True, False])], "arrays or masks"),
    "a truth value as index": (lambda m, x: x[:, True], "arrays or masks"),
    "a lost thread": (lambda m, x: ops.relu(Tensor(x.numpy() + 1)), "no operation leads from the images"),
    "the number of images as a factor": (lambda m, x: x.sum(axis=0) / len(x), FROZEN),
    "the number of images as a width": (lambda m, x: pad(x, ((0, 0),) * 3 + ((0, len(x)),)), FROZEN),
    "an array of one number per image": (lambda m, x: x * np.ones((len(x), 1, 1, 1), np.float32), FROZEN),
    "another operation for another batch": (other_path, "other operations to 2 images than to 3"),
    "another number of axes": (lambda m, x: x.reshape([1] * len(x) + [-1]), "changes the number of axes"),
    "the batch twice": (lambda m, x: batch_squared(x).reshape(len(x), len(x)), "cannot be written for any batch size"),
    "a number from the images": (lambda m, x: x / float(x.max().item() + 1), FROZEN),
    "an option from the images": (lambda m, x: 2 * x + (x * x + 1) ** x.max().item(), FROZEN),
    "a way that depends on the images": (lambda m, x: 2 * (ops.relu(x) if x.max().item() > 0 else x), "what the images show"),
    "pooling over the batch": (lambda m, x: ops.max_pool2d(x.transpose(1, 2, 3, 0), 1), "runs over an axis whose size changes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_onnx_form_is_refused_by_name(name, tmp_path):
    function, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        export_onnx(Does(function), tmp_path / "net.onnx", (2, 4, 5))
    assert str(caught.value).startswith("export_onnx: ")
    assert list(tmp_path.iterdir()) == []


FROM_THE_IMAGES = [name for name in REFUSED if "mask" in name or "from the images" in name or "lost" in name]


@pytest.mark.parametrize("name", FROM_THE_IMAGES)
def test_a_fixed_batch_does_not_let_through_what_the_images_show(name, tmp_path):
    function, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        export_onnx(Does(function), tmp_path / "net.onnx", (2, 4, 5), batch=3)


def test_an_error_names_the_module_deep_inside(tmp_path):
    net = nn.Sequential({"features": nn.Sequential(nn.ReLU(), Does(lambda m, x: apply(Twice(), x)))})
    with pytest.raises(ValueError, match=r"features\.1: the operation twice"):
        export_onnx(net, tmp_path / "net.onnx", (2, 3))


@pytest.mark.parametrize(("net", "shape", "options", "error", "words"), [
    (nn.ReLU, (3,), {}, TypeError, r"add parentheses, ReLU\(\.\.\.\)"),
    (np.tanh, (3,), {}, TypeError, "must be a Module, got tanh"),
    (Does(lambda m, x: (x, x)), (3,), {}, TypeError, "must return one tensor, in evaluation mode too, got tuple"),
    (nn.ReLU(), 3, {}, ValueError, "shape of one image"),
    (nn.ReLU(), (3, 0), {}, ValueError, "shape of one image"),
    (nn.ReLU(), (), {}, ValueError, "shape of one image"),
    (nn.ReLU(), (3, "4"), {}, ValueError, "shape of one image"),
    (nn.ReLU(), (3,), {"batch": 0}, ValueError, "batch must be a name"),
    (nn.ReLU(), (3,), {"batch": "any number"}, ValueError, "batch must be a name"),
    (nn.ReLU(), (3,), {"batch": True}, ValueError, "batch must be a name"),
    (nn.ReLU(), (3,), {"opset": 18}, ValueError, "opset must be 13 to 17, got 18"),
    (nn.ReLU(), (3,), {"metadata": {"epoch": 3}}, TypeError, "map strings to strings"),
    (nn.ReLU(), (3,), {"metadata": "trained by me"}, TypeError, "map strings to strings"),
    (nn.Conv2d(3, 4, 3), (4, 8, 8), {}, ValueError, "x has 4 channels but w expects 3"),
])
def test_wrong_arguments_are_refused(net, shape, options, error, words, tmp_path):
    with pytest.raises(error, match=words):
        export_onnx(net, tmp_path / "net.onnx", shape, **options)
    assert list(tmp_path.iterdir()) == []


def test_more_than_protobuf_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    with pytest.raises(ValueError, match="an ONNX file holds at most 2"):
        export_onnx(nn.Linear(20, 20), tmp_path / "net.onnx", (20,))
    assert list(tmp_path.iterdir()) == []


def wrong_node(g, call, x):
    return g.node("Relu", x, x)


def wrong_shape(g, call, x):
    return g.node("Reshape", x, g.constant("shape", [-1, 7], np.int64))


def interrupted(g, call, x):
    raise KeyboardInterrupt("by the user")


@pytest.mark.parametrize(("translate", "error", "words"), [
    (wrong_node, RuntimeError, "onnx.checker refuses"), (wrong_shape, RuntimeError, "onnx.checker refuses"),
    (interrupted, KeyboardInterrupt, "by the user")])
def test_what_fails_leaves_the_old_file_and_no_other(translate, error, words, tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_text("old")
    monkeypatch.setitem(TRANSLATIONS, ops.ReLU, translate)
    with pytest.raises(error, match=words):
        export_onnx(nn.ReLU(), path, (3,))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_array_of_whole_numbers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(TRANSLATIONS, Where, lambda g, call, condition, x, y: g.node("Where", condition, x, y))
    with pytest.raises(ValueError, match="input condition of where is bool"):
        export_onnx(Does(lambda m, x: minidl.where(np.array([True, False]), x, -x)), tmp_path / "net.onnx", (2,))


def test_a_number_does_not_take_the_name_of_a_buffer(tmp_path):
    net, path = Does(lambda m, x: x + 2), tmp_path / "net.onnx"
    net.register_buffer("history", np.array(1, np.float32))  # ends as the input of `add` is called
    export_onnx(net, path, (3,))
    assert [tensor.name for tensor in onnx.load(path).graph.initializer] == ["add.y"]


def test_a_function_of_ones_own_is_exported_once_it_has_an_entry(tmp_path, monkeypatch):
    monkeypatch.setitem(TRANSLATIONS, Twice, lambda g, call, x: g.node("Mul", x, g.constant("two", 2.0)))
    net, path = Does(lambda m, x: apply(Twice(), x)), tmp_path / "net.onnx"
    export_onnx(net, path, (3,))
    assert_same(net, path, images(0, 2, 3))
