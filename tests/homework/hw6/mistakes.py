"""(task, what stands in the solution, what a student might have written, words that the messages must hold)."""

MISTAKES = [
    # sgd
    ("sgd", "v -= self.lr * (p.grad + self.weight_decay * p.data)\n            p.data = p.data + v",
     "v += p.grad + self.weight_decay * p.data\n            p.data = p.data - self.lr * v",
     "the parameter after step 3"),  # PyTorch's: the rate outside, which shows when it changes
    ("sgd", "            v *= self.momentum\n            v -=", "            v -=", "momentum 0.9"),
    ("sgd", "v *= self.momentum\n            v -=", "v *= 1 - self.momentum\n            v -=", "momentum 0.9"),
    ("sgd", "v -= self.lr * (p.grad + self.weight_decay * p.data)\n            p.data = p.data + v",
     "v -= self.lr * p.grad\n            p.data = p.data + v - self.lr * self.weight_decay * p.data",
     "weight decay 0.2"),  # past the velocity
    ("sgd", "v -= self.lr * (p.grad + self.weight_decay * p.data)\n",
     "p.grad += self.weight_decay * p.data\n            v -= self.lr * p.grad\n", "must leave it as it is"),
    ("sgd", "self.weight_decay * p.data)\n", "self.weight_decay)\n", "weight decay 0.2"),  # does not know w
    ("sgd", "v -= self.lr * (p.grad + self.weight_decay * p.data)\n", "v -= self.lr * (p.grad - self.weight_decay * p.data)\n",
     "weight decay 0.2"),
    ("sgd", "self.velocities = [np.zeros_like(p.data) for p in self.parameters]",
     "self.velocities = [np.zeros_like(p.data) for p in parameters]", "parameter 1 of 3"),  # the iterator is used up
    ("sgd", "self.velocities = [np.zeros_like(p.data) for p in self.parameters]",
     "self.velocities = [np.zeros(p.shape) for p in self.parameters]", "float32"),
    ("sgd", "            if p.grad is None:\n                continue\n", "", "NoneType"),
    ("sgd", "            p.grad = None\n", "            p.grad = 0 * p.data\n", "must be None"),
    # rate
    ("rate", "sum(step >= milestone for milestone in milestones)", "sum(step > milestone for milestone in milestones)",
     "rate_at(3, 0.1, [3, 5])"),  # one update late
    ("rate", "float(base * factor**reached * rising)", "float(base * (factor if reached else 1) * rising)",
     "rate_at(5, 0.1, [3, 5])"),  # falls once only
    ("rate", "float(base * factor**reached * rising)", "float(base * factor * reached * rising)", "rate_at(0, 0.1"),
    ("rate", "min(1.0, (step + 1) / warmup)", "min(1.0, step / warmup)", "rate_at(0, 1.0, [], warmup=4)"),  # begins with 0
    ("rate", "min(1.0, (step + 1) / warmup) if warmup", "(step + 1) / warmup if warmup", "warmup=4"),  # goes on rising
    ("rate", "sum(step >= milestone for milestone in milestones)",
     "sum(step >= milestone + warmup for milestone in milestones)", "warmup=2"),
    ("rate", "base * factor**reached * rising", "base * 0.1**reached * rising", "factor=0.5"),
    ("rate", "reached = sum(step >= milestone for milestone in milestones)",
     "reached = 0\n    while reached < len(milestones) and step >= milestones[reached]:\n        reached += 1",
     "[4, 2]"),  # trusts the order
    # train
    ("train", "optimizer.zero_grad()\n            loss = ops", "loss = ops", "the weight of a linear net"),
    ("train", "    net.train()\n    for _ in range(passes):", "    for _ in range(passes):", "in training mode"),
    ("train", "total + loss.item() * len(x), count + len(x), step + 1", "total + loss.item(), count + 1, step + 1",
     "the mean losses"),  # a small batch counts as much as a large one
    ("train", "            optimizer.lr = rate(step)\n", "", "the weight of a linear net"),
    ("train", "    for _ in range(passes):\n", "    for _ in range(passes):\n        step = 0\n", "the weight of a linear net"),
    ("train", "for x, labels in batches:\n            optimizer", "for x, labels in list(batches)[:-1]:\n            optimizer",
     "the weight of a linear net"),  # leaves out the smaller last batch
    ("train", "optimizer.lr = rate(step)\n            optimizer.zero_grad()",
     "optimizer.lr = rate(len(means))\n            optimizer.zero_grad()", "the weight of a linear net"),  # per pass
    ("train", "step, means = 0, []\n    net.train()\n", "step, means, batches = 0, [], list(batches)\n    net.train()\n",
     "walk through the batches"),  # the same order in every pass
    ("train", "    net.eval()\n", "", "evaluation mode"),
    ("train", "    net.train(was)\n", "    net.train()\n", "afterwards, too"),
    ("train", "    net.train(was)\n", "", "afterwards, too"),
    ("train", "with minidl.no_grad():\n        for x, y in batches:", "if True:\n        for x, y in batches:", "recorded"),
    ("train", "            scores.append(net(minidl.Tensor(x)).numpy())\n            labels.append(y)\n",
     "            scores.insert(0, net(minidl.Tensor(x)).numpy())\n            labels.append(y)\n", "the scores"),
    # errors
    ("errors", "(scores >= own).sum(axis=1) - 1 ", "(scores > own).sum(axis=1) ", "scores are equal"),
    ("errors", "np.mean(rivals >= k)", "np.mean(rivals < k)", "top_k_errors of 3 images"),  # accuracy
    ("errors", "float(100 * np.mean(rivals >= k))", "float(np.mean(rivals >= k))", "top_k_errors of 3 images"),
    ("errors", "(scores >= own).sum(axis=1) - 1 ", "(scores >= own).sum(axis=1) ", "top_k_errors of 3 images"),
    ("errors", "np.add.at(matrix, (labels[counts].astype(np.int64), guesses[counts].astype(np.int64)), 1)",
     "np.add.at(matrix, (guesses[counts].astype(np.int64), labels[counts].astype(np.int64)), 1)", "confusion"),  # transposed
    ("errors", "np.add.at(matrix, (labels[counts].astype(np.int64), guesses[counts].astype(np.int64)), 1)",
     "matrix[labels[counts].astype(np.int64), guesses[counts].astype(np.int64)] += 1", "confusion"),  # a pair counts once
    ("errors", "np.add.at(matrix, (labels[counts].astype(np.int64), guesses[counts].astype(np.int64)), 1)",
     "matrix = np.bincount(labels[counts] * C + guesses[counts], minlength=C * C).reshape(C, C)",
     "uint8"),  # 255 is the largest: the product wraps around
    ("errors", "counts = labels != ignore", "counts = labels != 255", "ignore=-1"),
    ("errors", "counts = labels != ignore", "counts = labels < C", "ignore=-1"),
    # ten_crops
    ("ten_crops", "(bottom // 2, right // 2)]", "(bottom // 2, bottom // 2)]", "centre"),
    ("ten_crops", "(bottom // 2, right // 2)]", "((bottom + 1) // 2, (right + 1) // 2)]", "centre"),
    ("ten_crops", "[crop[..., ::-1] for crop in crops]", "[crop[:, :, ::-1] for crop in crops]", "mirrored"),  # upside down
    ("ten_crops", "[(0, 0), (0, right), (bottom, 0)", "[(0, 0), (bottom, 0), (0, right)", "top right"),
    ("ten_crops", "H, W = images.shape[2:]", "W, H = images.shape[2:]", "same shape"),
    ("ten_crops", "crops += [crop[..., ::-1] for crop in crops]",
     "crops = [view for crop in crops for view in (crop, crop[..., ::-1])]", "mirrored"),
    ("ten_crops", "    e = np.exp(scores - scores.max(axis=1, keepdims=True))\n    probabilities = e",
     "    e = np.exp(scores)\n    probabilities = e", "scores in the thousands"),
    ("ten_crops", "return probabilities.reshape(N, 10, -1).mean(axis=1)",
     "return probabilities.reshape(10, N, -1).mean(axis=0)", "ten_crop_probabilities(net, images (3"),  # mixes the images
    ("ten_crops", "return probabilities.reshape(N, 10, -1).mean(axis=1)",
     "mean = scores.reshape(N, 10, -1).mean(axis=1)\n    e = np.exp(mean - mean.max(axis=1, keepdims=True))\n"
     "    return e / e.sum(axis=1, keepdims=True)", "ten_crop_probabilities(net, images (3"),  # the mean before the softmax
    # dense
    ("dense", "reshape(-1, C, H, W))  #", "reshape(-1, H, W, C).transpose(0, 3, 1, 2))  #", "as_convolutions"),  # channels last
    ("dense", "reshape(-1, C, H, W))  #", "reshape(-1, C, W, H).transpose(0, 1, 3, 2))  #", "as_convolutions"),
    ("dense", "reshape(-1, C, H, W))  #", "reshape(-1, C, H, W)[:, :, ::-1, ::-1])  #", "as_convolutions"),  # turned kernels
    ("dense", "conv.bias = nn.Parameter(bias.data)", "conv.bias = bias", "of the classifier, after"),  # no copy
    ("dense", "            conv.bias = nn.Parameter(bias.data)\n", "", "as_convolutions"),
    ("dense", "conv.bias = nn.Parameter(bias.data)", "conv.bias.data = bias.data.astype(np.float32)", "must have this dtype"),
    ("dense", "C, H, W = layer.out_features, 1, 1  #", "C = layer.out_features  #", "as_convolutions"),
    ("dense", ".numpy().mean(axis=(2, 3))  # (N, K)\n            e = np.exp(scores - scores.max(axis=1, keepdims=True))\n"
     "            both.append(e / e.sum(axis=1, keepdims=True))",
     ".numpy()\n            e = np.exp(scores - scores.max(axis=1, keepdims=True))\n"
     "            both.append((e / e.sum(axis=1, keepdims=True)).mean(axis=(2, 3)))", "dense_probabilities"),  # softmax first
    ("dense", "for x in (images, images[..., ::-1].copy()):", "for x in (images, images[..., ::-1, :].copy()):", "dense_prob"),
    ("dense", "return (both[0] + both[1]) / 2", "return both[0]", "dense_probabilities"),
    ("dense", ".mean(axis=(2, 3))  # (N, K)", ".max(axis=(2, 3))  # (N, K)", "dense_probabilities"),
    # upsample
    ("upsample", "(K - 1) / 2) / f\n", "K / 2) / f\n", "bilinear_weights"),
    ("upsample", "K = 2 * f - f % 2\n", "K = 2 * f\n", "bilinear_weights(2, 1)"),
    ("upsample", "return np.outer(tent(fh), tent(fw))", "return np.outer(tent(fw), tent(fh))", "bilinear_weights(2, 1)"),
    ("upsample", "(K - 1) / 2) / f\n", "(K - 1) / 2) / (f + 1)\n", "bilinear_weights"),
    ("upsample", "w[range(C), range(C)] = bilinear_weights(fh, fw)", "w[:] = bilinear_weights(fh, fw)", "upsample"),  # mixed
    ("upsample", "(fh, fw), (fh // 2, fw // 2))\n    #: end", "(fh, fw))[:, :, :fh * x.shape[2], :fw * x.shape[3]]\n    #: end",
     "upsample"),  # cut at the end only
    ("upsample", "np.zeros((C, C, *bilinear_weights(fh, fw).shape), x.dtype)",
     "np.zeros((C, C, *bilinear_weights(fh, fw).shape))", "float32"),
    ("upsample", "ops.conv_transpose2d(x, minidl", "ops.conv_transpose2d(x.detach(), minidl", "gradcheck"),
    # mean_iou
    ("mean_iou", "matrix.sum(axis=0) + matrix.sum(axis=1) - both", "matrix.sum(axis=0) + matrix.sum(axis=1)", "of each class"),
    ("mean_iou", "matrix.sum(axis=0) + matrix.sum(axis=1) - both", "matrix.sum(axis=1)", "of each class"),  # accuracy per class
    ("mean_iou", "np.where(union > 0, both / np.maximum(union, 1), np.nan)", "both / np.maximum(union, 1)", "5 classes"),
    ("mean_iou", "np.where(union > 0, both / np.maximum(union, 1), np.nan)",
     "np.where(matrix.sum(axis=1) > 0, both / np.maximum(union, 1), np.nan)", "5 classes"),  # a class that is guessed only
    ("mean_iou", "float(np.nanmean(per_class))", "float(both.sum() / union.sum())", "the mean"),
    ("mean_iou", "confusion(scores.argmax(axis=1), labels, C, ignore)\n", "confusion(scores.argmax(axis=1), labels, C)\n",
     "mean_iou(scores, labels (2, 4, 5)), ignore"),
    ("mean_iou", "    matrix = confusion(scores.argmax(axis=1), labels, C, ignore)\n",
     "    labels = np.where(labels == ignore, 0, labels)\n    matrix = confusion(scores.argmax(axis=1), labels, C, -7)\n",
     "ignore 255"),
]
