"""Layers against PyTorch's: weights carried over by state_dict, then outputs and gradients compared."""
import numpy as np
import pytest

from minidl import nn
from minidl.autograd import Tensor

torch = pytest.importorskip("torch", reason="compares with PyTorch, which minidl does not depend on")
pytestmark = pytest.mark.oracle

# ours, theirs, shape of x; the constructors are PyTorch's in name and arguments wherever the lambda is one and the same
EXAMPLES = [
    (lambda nn: nn.Linear(4, 3), (5, 4)),
    (lambda nn: nn.Linear(4, 3, bias=False), (2, 5, 4)),
    (lambda nn: nn.Linear(4, 3, False), (5, 4)),
    (lambda nn: nn.Conv2d(4, 6, (3, 2), (2, 1), (0, 1), groups=2), (2, 4, 6, 7)),
    (lambda nn: nn.Conv2d(3, 2, kernel_size=3, stride=2, padding=1, bias=False), (2, 3, 6, 7)),
    (lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (0, 1), (1, 0), 2), (2, 4, 5, 4)),
    (lambda nn: nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, bias=False), (2, 4, 5, 4)),
    (lambda nn: nn.BatchNorm2d(3, 1e-3, 0.3), (4, 3, 5, 2)),
    (lambda nn: nn.BatchNorm2d(3).eval(), (4, 3, 5, 2)),
    (lambda nn: nn.BatchNorm1d(3), (4, 3)),
    (lambda nn: nn.BatchNorm1d(3, momentum=0.2), (4, 3, 5)),
    (lambda nn: nn.BatchNorm1d(3).eval(), (4, 3)),
    (lambda nn: nn.ReLU(), (2, 3)),
    (lambda nn: nn.LeakyReLU(0.2), (2, 3)),
    (lambda nn: nn.Sigmoid(), (2, 3)),
    (lambda nn: nn.Tanh(), (2, 3)),
    (lambda nn: nn.Softmax(1), (2, 3, 4, 5)),
    (lambda nn: nn.LogSoftmax(dim=-1), (2, 3)),
    (lambda nn: nn.MaxPool2d((3, 2), (2, 1), (1, 0)), (2, 3, 6, 7)),
    (lambda nn: nn.MaxPool2d(2, ceil_mode=True), (2, 3, 5, 7)),
    (lambda nn: nn.AvgPool2d((3, 2), (2, 1), (1, 0)), (2, 3, 6, 7)),
    (lambda nn: nn.AvgPool2d(3, 2, 1, True, False), (2, 3, 6, 7)),
    (lambda nn: nn.AdaptiveAvgPool2d((2, 3)), (2, 3, 5, 7)),
    (lambda nn: nn.LocalResponseNorm(3, 0.5, 0.6, 1.5), (2, 7, 3, 2)),
    (lambda nn: nn.LocalResponseNorm(4, alpha=0.5), (2, 7, 3)),
    (lambda nn: nn.Flatten(), (2, 3, 4, 5)),
    (lambda nn: nn.Flatten(1, 2), (2, 3, 4, 5)),
    (lambda nn: nn.Identity(), (2, 3)),
    (lambda nn: nn.Dropout(0.5).eval(), (2, 3)),
    (lambda nn: nn.Unfold((3, 2), padding=(1, 0), stride=(2, 1)), (2, 3, 6, 7)),
    (lambda nn: nn.Fold((4, 5), (2, 3), stride=2, padding=0), (2, 12, 4)),
    (lambda nn: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)), (3, 2, 4, 4)),
]


@pytest.mark.parametrize("make, shape", EXAMPLES, ids=lambda value: repr(value(nn))[:60] if callable(value) else None)
def test_layers_agree_with_pytorchs_in_output_gradients_and_statistics(make, shape):
    rng = np.random.default_rng(0)
    theirs, ours = make(torch.nn).double(), make(nn).to(dtype=np.float64)
    with torch.no_grad():
        for t in [*theirs.parameters(), *(b for b in theirs.buffers() if b.dtype == torch.float64)]:
            t.copy_(torch.from_numpy(rng.uniform(0.2, 1.5, t.shape)))
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)

    x = rng.standard_normal(shape)
    t, z = torch.from_numpy(x).requires_grad_(), Tensor(x, requires_grad=True)
    expected, y = theirs(t), ours(z)
    dy = rng.standard_normal(y.shape)
    expected.backward(torch.from_numpy(dy))
    y.backward(dy)
    close = dict(rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), err_msg=f"{ours}", **close)
    np.testing.assert_allclose(z.grad, t.grad.numpy(), err_msg=f"{ours}: dx", **close)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), err_msg=f"{ours}: {name}", **close)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), err_msg=f"{ours}: {key} after", **close)


def test_a_state_dict_goes_back_to_pytorch():
    ours = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape, label_shape", [((6, 4), (6,)), ((2, 4, 3, 5), (2, 3, 5))])
def test_losses_agree_with_pytorchs(shape, label_shape):
    rng = np.random.default_rng(0)
    x, target, labels = rng.standard_normal(shape), rng.standard_normal(shape), rng.integers(0, 4, label_shape)
    labels.flat[0] = -100
    for ours, theirs, second in [
        (nn.CrossEntropyLoss(ignore_index=-100), torch.nn.CrossEntropyLoss(), labels),
        (nn.MSELoss(), torch.nn.MSELoss(), target),
    ]:
        z, t = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
        loss, expected = ours(z, second), theirs(t, torch.from_numpy(second))
        loss.backward()
        expected.backward()
        np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-9)
        np.testing.assert_allclose(z.grad, t.grad.numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_bilinear_upsampling_is_pytorchs_interpolation_inside(factor):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    y = nn.BilinearUpsample2d(3, factor).to(dtype=np.float64)(x).numpy()
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), scale_factor=factor, mode="bilinear").numpy()
    inside = np.s_[:, :, factor:-factor, factor:-factor]  # at the border one fades to zero, the other repeats the edge
    np.testing.assert_allclose(y[inside], expected[inside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ours, theirs, options", [
    (nn.init.he_normal, "kaiming_normal_", {}),
    (nn.init.he_normal, "kaiming_normal_", dict(mode="fan_out")),
    (nn.init.he_uniform, "kaiming_uniform_", {}),
    (nn.init.glorot_normal, "xavier_normal_", dict(gain=1.5)),
    (nn.init.glorot_uniform, "xavier_uniform_", {}),
])
def test_first_values_have_the_spread_of_pytorchs(ours, theirs, options):
    from minidl.randomness import manual_seed
    manual_seed(0)
    torch.manual_seed(0)
    shape = (50, 40, 3, 5)
    extra = dict(nonlinearity="relu") if "kaiming" in theirs else {}
    p = ours(nn.Parameter(np.zeros(shape)), **options)
    q = getattr(torch.nn.init, theirs)(torch.empty(shape), **options, **extra)
    assert abs(p.data.std() / q.numpy().std() - 1) < 0.02
