"""Homework 6: training and testing as the papers do it.

You write stochastic gradient descent as the papers have it, a rate that falls in steps, and the training loop; you measure the
errors of a net; and you use it as AlexNet, VGG and FCN were used: on ten crops, densely over larger images, and pixel by pixel.
It goes with lesson 3 (`lessons/03_plain_against_residual.py`), whose loop is short.

Use `minidl.nn`, `minidl.ops`, `minidl.no_grad` and NumPy. Operations take PyTorch's `dim`, as in ops.softmax(x, dim=1); array
methods take NumPy's `axis`. The ready-made optimizers, schedules, metrics and loops of minidl do not fit: here the rules are
the papers', and the arguments differ on purpose.

Check your file with: minidl homework check hw6_training.py

Papers: Krizhevsky et al. 2012 (AlexNet), Simonyan and Zisserman 2015 (VGG), Long et al. 2015 (FCN), He et al. 2016 (ResNet).
"""
import numpy as np

import minidl
from minidl import nn, ops


#: task sgd | 5 points | 25 minutes
#: hint What must be remembered from one step to the next, how many of them are there, and what is it before the first step?
#: hint Keep one velocity array per parameter, zeros at first. Both terms that the rate multiplies go into the velocity, so a
#:      later change of the rate does not touch what it holds already.
#: hint for p, v in zip(self.parameters, self.velocities): skip p if p.grad is None; v *= self.momentum;
#:      v -= self.lr * (p.grad + self.weight_decay * p.data); p.data = p.data + v
class PaperSGD:
    """Stochastic gradient descent with momentum and weight decay, as AlexNet's authors write it (their section 5)

        v = momentum * v - weight_decay * lr * w - lr * gradient          v = 0 at first
        w = w + v

    for each parameter w, with a velocity v of its own. The rate stands inside v: what v holds keeps the rate that it came with.
    `lr` is an attribute, which a schedule may set before any step. The object has the attributes lr, momentum, weight_decay.
    """

    def __init__(self, parameters, lr, momentum=0.9, weight_decay=0.0):
        """parameters: Tensors, as net.parameters() gives them: an iterator, which can be walked through once."""
        #: solution
        self.parameters = list(parameters)
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.velocities = [np.zeros_like(p.data) for p in self.parameters]
        #: end

    def step(self):
        """One update of every parameter by its .grad; one whose .grad is None stays, with its velocity. Gradients stay, too.

        Assign the new values to .data (p.data = ...), so that minidl knows of the change; they keep their dtype.
        """
        #: solution
        for p, v in zip(self.parameters, self.velocities):
            if p.grad is None:
                continue
            v *= self.momentum
            v -= self.lr * (p.grad + self.weight_decay * p.data)
            p.data = p.data + v
        #: end

    def zero_grad(self):
        """Forgets all gradients: .grad of every parameter becomes None."""
        #: solution
        for p in self.parameters:
            p.grad = None
        #: end


#: task rate | 3 points | 15 minutes
#: hint Write down the rates of the updates 0, 1, 2, ... for warmup 4 and milestones [6, 8]. At which update does each change
#:      act?
#: hint How many milestones have been reached at this update? A milestone is reached at the update with its number.
#: hint factor ** sum(step >= m for m in milestones), times (step + 1) / warmup as long as step < warmup.
def rate_at(step, base, milestones, factor=0.1, warmup=0):
    """The learning rate of update number `step` (0 is the first): it falls in steps, as in the papers, after a warm-up

    It begins with `base` and is multiplied by `factor` at every milestone: update number m is the first with the new rate.
    During the first `warmup` updates it rises evenly: to base / warmup at update 0, 2 base / warmup at update 1, and so on, so
    that update warmup - 1 has the full rate. Milestones that fall into the warm-up count there, too. Milestones may come in any
    order. Returns a float.
    """
    #: solution
    reached = sum(step >= milestone for milestone in milestones)
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return float(base * factor**reached * rising)
    #: end


#: task train | 7 points | 40 minutes
#: hint Batch norm and dropout must know whether they learn. Who tells them, and who tells them afterwards? What happens to
#:      gradients that nobody clears?
#: hint An update: set the rate, clear the gradients, net(x), the loss, loss.backward(), optimizer.step(). The mean loss of a
#:      pass is over images, so a batch counts as often as it has images.
#: hint In scores_of: was = net.training; net.eval(); under minidl.no_grad() collect net(minidl.Tensor(x)).numpy() in a list;
#:      net.train(was); np.concatenate. In train, a counter of updates goes on from pass to pass.
def train(net, optimizer, batches, passes, rate):
    """Trains a classifier and returns the mean loss of each pass, a list of `passes` numbers

    net: gives scores (N, C) for images (N, ...). optimizer: a PaperSGD of its parameters. batches: gives pairs (x, labels) of
    NumPy arrays each time it is walked through (a minidl.data.DataLoader, or a list); a pass walks through it once, with one
    update per batch. rate(step): the rate of update number `step`, counted from 0 over all passes, which the optimizer must
    have in that update. The loss is ops.cross_entropy, the mean over the images of a batch.
    The net learns in training mode, whatever mode it came in, and is left in it. The mean loss of a pass is the mean over its
    images (batches may differ in size), each taken when its batch was seen. Gradients that somebody left behind must not count.
    """
    #: solution
    step, means = 0, []
    net.train()
    for _ in range(passes):
        total, count = 0.0, 0
        for x, labels in batches:
            optimizer.lr = rate(step)
            optimizer.zero_grad()
            loss = ops.cross_entropy(net(minidl.Tensor(x)), labels)
            loss.backward()
            optimizer.step()
            total, count, step = total + loss.item() * len(x), count + len(x), step + 1
        means.append(total / count)
    return means
    #: end


def scores_of(net, batches):
    """(scores, labels) of all images in `batches`, as two NumPy arrays (N, C) and (N,), in the order in which they come

    The net judges in evaluation mode and records nothing for a backward. Afterwards it is in the mode (net.training) that it
    was in before, with the same running statistics.
    """
    #: solution
    was, scores, labels = net.training, [], []
    net.eval()
    with minidl.no_grad():
        for x, y in batches:
            scores.append(net(minidl.Tensor(x)).numpy())
            labels.append(y)
    net.train(was)
    return np.concatenate(scores), np.concatenate(labels)
    #: end


#: task errors | 5 points | 25 minutes
#: hint A net that gives every class the same score knows nothing. How often may it be right? For the matrix: which of the two
#:      counts its rows?
#: hint Count for each image how many other classes score at least as much as the right one. It is right among the k best if
#:      these are fewer than k.
#: hint own = np.take_along_axis(scores, labels[:, None], axis=1); rivals = (scores >= own).sum(axis=1) - 1. For the matrix,
#:      np.add.at(matrix, (labels, guesses), 1), or np.bincount of labels * C + guesses.
def top_k_errors(scores, labels, ks=(1, 5)):
    """Error rates in percent, a list with one for each k in `ks`: how many images do not have their label among the k best

    scores (N, C), labels (N,) integers. Ties count against the net: an image is right if fewer than k other classes score at
    least as much as its label's. A net with equal scores for all classes is thus wrong everywhere, unless k is C.
    """
    #: solution
    own = np.take_along_axis(scores, labels[:, None], axis=1)  # (N, 1): the score of the right class
    rivals = (scores >= own).sum(axis=1) - 1                   # the class itself is none
    return [float(100 * np.mean(rivals >= k)) for k in ks]
    #: end


def confusion(guesses, labels, C, ignore=255):
    """matrix[i, j]: how many places with label i were taken for class j; an integer array (C, C)

    guesses, labels: integer arrays of one shape, any number of axes (images, or pixels), which stay as they are. Places whose
    label is `ignore` are not counted, whatever the guess is there. All other labels, and the guesses, are 0 to C - 1.
    """
    #: solution
    counts = labels != ignore
    matrix = np.zeros((C, C), np.int64)
    np.add.at(matrix, (labels[counts].astype(np.int64), guesses[counts].astype(np.int64)), 1)
    return matrix
    #: end


#: task ten_crops | 5 points | 25 minutes
#: hint Draw an image of 5 x 7 and the five windows of 3 x 4. In which row and column does each begin?
#: hint Five windows x[:, :, top:top + height, left:left + width], with left 0, W - width or (W - width) // 2, and the same five
#:      with the last axis turned, [..., ::-1]; np.stack(..., axis=1).
#: hint crops.reshape(N * 10, C, height, width) goes through the net at once. Softmax each row of the scores (subtract the
#:      largest first), reshape to (N, 10, K), and take the mean over axis 1.
def ten_crops(images, height, width):
    """The four corners and the centre of each image, then the mirror images of these five (AlexNet, section 4.1)

    images: an array (N, C, H, W) -> an array (N, 10, C, height, width). Order: top left, top right, bottom left, bottom right,
    centre (rounded down: it begins at row (H - height) // 2 and column (W - width) // 2), then the five mirrored left to right.
    """
    #: solution
    H, W = images.shape[2:]
    bottom, right = H - height, W - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = [images[:, :, top:top + height, left:left + width] for top, left in corners]
    crops += [crop[..., ::-1] for crop in crops]
    return np.stack(crops, axis=1)
    #: end


def ten_crop_probabilities(net, images, height, width):
    """The softmax probabilities (N, K) of each image, averaged over its ten crops

    net: takes a Tensor (M, C, height, width), any M, and gives scores (logits), a Tensor (M, K). It is in evaluation mode
    already. Each crop's scores become probabilities first, then their mean is taken. Scores may be large: nothing may
    overflow.
    """
    #: solution
    crops = ten_crops(images, height, width)
    N = len(images)
    with minidl.no_grad():
        scores = net(minidl.Tensor(crops.reshape(N * 10, *crops.shape[2:]))).numpy()  # (10 N, K)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = e / e.sum(axis=1, keepdims=True)
    return probabilities.reshape(N, 10, -1).mean(axis=1)
    #: end


#: task dense | 5 points | 35 minutes
#: hint What does a unit of the first linear layer see? A convolution whose kernel is as large as the whole map sees the same.
#: hint A map is flattened channel by channel, and each channel row by row. So a row of the weight, (C * H * W,), becomes a
#:      kernel (C, H, W) by one reshape. The next linear layers see the channels of one place: kernels of 1x1.
#: hint conv = nn.Conv2d(C, layer.out_features, (H, W)); conv.weight = nn.Parameter(layer.weight.data reshaped) and conv.bias =
#:      nn.Parameter(layer.bias.data): both copy, and keep the dtype, which need not be that of a new layer; then C, H, W =
#:      layer.out_features, 1, 1. With a mirror image: images[..., ::-1]; mean of the scores over axes 2 and 3.
def as_convolutions(classifier, map_shape):
    """The classifier as a net of convolutions that slides over larger maps (VGG, section 3.2; FCN, section 3.1)

    classifier: an nn.Sequential of nn.Linear layers and of others that take each number alone (nn.ReLU, nn.Dropout). It was
    made for the flattened maps of shape map_shape, (C, H, W). Returns a new nn.Sequential with one module for each of its
    modules: an nn.Conv2d, with bias, for every nn.Linear (all have a bias), and the others as they are. On a map (N, C, H, W)
    it gives (N, K, 1, 1), the scores of the classifier; on a larger one (N, K, OH, OW), the scores of every window of H x W.
    The classifier is left as it was: the new weights are copies, of the same dtype.
    """
    #: solution
    C, H, W = map_shape
    layers = []
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            conv = nn.Conv2d(C, layer.out_features, (H, W))
            weight, bias = layer.parameters()
            conv.weight = nn.Parameter(weight.data.reshape(-1, C, H, W))  # (F, C * H * W) -> (F, C, H, W), a copy
            conv.bias = nn.Parameter(bias.data)
            C, H, W = layer.out_features, 1, 1  # what the next layer sees at each place
            layer = conv
        layers.append(layer)
    return nn.Sequential(*layers)
    #: end


def dense_probabilities(net, images):
    """Class probabilities (N, K) of whole images, by VGG's dense evaluation (section 3.2)

    net: takes a Tensor (N, C, H, W) and gives a map of scores, a Tensor (N, K, OH, OW); it is in evaluation mode already.
    images: an array. The scores are averaged over the map, then become probabilities by softmax; this is done for the images
    and for their mirror images (left to right), and the result is the mean of both.
    """
    #: solution
    both = []
    with minidl.no_grad():
        for x in (images, images[..., ::-1].copy()):
            scores = net(minidl.Tensor(x)).numpy().mean(axis=(2, 3))  # (N, K)
            e = np.exp(scores - scores.max(axis=1, keepdims=True))
            both.append(e / e.sum(axis=1, keepdims=True))
    return (both[0] + both[1]) / 2
    #: end


#: task upsample | 5 points | 35 minutes
#: hint On a line, paint a tent at every pixel, as wide as two steps. Where two tents overlap their heights add up to 1: that
#:      is the straight line between two values.
#: hint For a factor f the kernel has K = 2 f - f % 2 numbers, the height of a tent with the middle at (K - 1) / 2:
#:      1 - |i - middle| / f. In two dimensions it is the product of two of them.
#: hint w = np.zeros((C, C, KH, KW)); w[c, c] = kernel for every class c, so that no class paints into another;
#:      ops.conv_transpose2d(x, w, None, (fh, fw), (fh // 2, fw // 2)), with w as a Tensor of x's dtype.
def bilinear_weights(fh, fw):
    """The kernel with which a transposed convolution enlarges fh times in height, fw times in width: a float64 array (KH, KW)

    KH = 2 fh - fh % 2, and KW alike; the product of two tents, weights[i, j] = (1 - |i - (KH - 1) / 2| / fh) * (the same of j,
    KW and fw). Factor 2 gives 0.25, 0.75, 0.75, 0.25; factor 1 gives 1; factor 3 gives 1/3, 2/3, 1, 2/3, 1/3.
    """
    #: solution
    def tent(f):
        K = 2 * f - f % 2
        return 1 - np.abs(np.arange(K) - (K - 1) / 2) / f

    return np.outer(tent(fh), tent(fw))
    #: end


def upsample(x, fh, fw):
    """Each channel of x (N, C, H, W) by itself, enlarged bilinearly to (N, C, fh H, fw W) by ops.conv_transpose2d

    x: a Tensor; the result is one of the same dtype, and gradients flow back through it. The weights are bilinear_weights;
    strides fh and fw; paddings fh // 2 and fw // 2 cut off what is too much. (At the edges the neighbours outside are missing
    and count as 0, as in an FCN.)
    """
    #: solution
    C = x.shape[1]
    w = np.zeros((C, C, *bilinear_weights(fh, fw).shape), x.dtype)
    w[range(C), range(C)] = bilinear_weights(fh, fw)
    return ops.conv_transpose2d(x, minidl.Tensor(w), None, (fh, fw), (fh // 2, fw // 2))
    #: end


#: task mean_iou | 4 points | 20 minutes
#: hint Draw two discs that overlap: one is where the class is, the other where the net sees it. What is the union, and what
#:      would you count twice?
#: hint In the confusion matrix of all pixels, the diagonal is the intersection, a row sums to the pixels of a class, a column
#:      to the pixels that were taken for it.
#: hint matrix = confusion(scores.argmax(axis=1), labels, C, ignore); union = rows + columns - diagonal; NaN where the union is
#:      0; then np.nanmean.
def mean_iou(scores, labels, ignore=255):
    """(mean, per_class): intersection over union, the measure of segmentation (FCN, section 5)

        IoU of class i = pixels of class i that are taken for i / pixels that are of class i, or taken for i, or both

    scores (N, C, H, W); the guess at a pixel is the class that scores most. labels (N, H, W); pixels labelled `ignore` count
    nowhere. All pixels of all images are counted together. per_class: a float array (C,), with NaN for a class that is neither
    in the labels nor among the guesses. mean: a float, over the classes that are not NaN.
    """
    #: solution
    C = scores.shape[1]
    matrix = confusion(scores.argmax(axis=1), labels, C, ignore)
    both = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    per_class = np.where(union > 0, both / np.maximum(union, 1), np.nan)
    return float(np.nanmean(per_class)), per_class
    #: end
