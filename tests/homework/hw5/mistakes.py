"""(task, what stands in the solution, what a student might have written, words that the messages must hold)."""

MISTAKES = [
    # count_table
    ("count_table", "places = F * C * K * K, F, shape[1] * shape[2]", "places = F * C * K * K, 0, shape[1] * shape[2]",
     "parameters in AlexNet"),  # no biases
    ("count_table", "weights, biases, places = F * C * K * K, F, shape[1] * shape[2]",
     "weights, biases, places = F * K * K, F, shape[1] * shape[2]", "parameters in AlexNet"),  # a filter sees all channels
    ("count_table", "shape = F, (H + 2 * P - K) // S + 1, (W + 2 * P - K) // S + 1",
     "shape = F, (H + P - K) // S + 1, (W + P - K) // S + 1", "shapes in AlexNet"),  # padding on one side only
    ("count_table", "shape = C, (H - K) // S + 1, (W - K) // S + 1", "shape = C, H // S, W // S", "shapes"),
    ("count_table", "shape = C, (H - K) // S + 1, (W - K) // S + 1", "shape = C, -((K - H) // S) + 1, -((K - W) // S) + 1",
     "shapes of"),  # rounded up
    ("count_table", "shape[1] * shape[2]\n", "H * W\n", "multiply-adds"),  # counts the places of the input
    ("count_table", "rows.append((shape, weights + biases, weights * places))",
     "rows.append((shape, weights + biases, (weights + biases) * places))", "multiply-adds"),
    ("count_table", 'raise ValueError(f"count_table: the kind must be conv, pool or fc, got {kind!r}")', "continue",
     "must be refused"),
    # receptive_field
    ("receptive_field", "size += (K - 1) * step\n        step *= S\n", "step *= S\n        size += (K - 1) * step\n",
     "size and step"),  # the step behind the window instead of before it
    ("receptive_field", "size += (K - 1) * step\n", "size += K * step\n", "5x5"),
    ("receptive_field", "step *= S\n", "step += S - 1\n", "VGG"),
    ("receptive_field", "start -= P * step\n", "start -= P\n", "a gradient reaches"),
    ("receptive_field", "start -= P * step\n", "start += P * step\n", "a gradient reaches"),
    # he_init
    ("he_init", "rng.standard_normal(shape)", "np.random.standard_normal(shape)", "must come from rng"),
    ("he_init", "rng.standard_normal(shape)", "rng.uniform(-1, 1, shape) * np.sqrt(3)", "of normal numbers"),
    ("he_init", "np.sqrt(2 / fan_in)", "(2 / fan_in)", "standard deviation should be"),
    ("he_init", "np.sqrt(2 / fan_in)", "np.sqrt(1 / fan_in)", "after 20 layers"),
    ("he_init", "fan_in = math.prod(shape[1:])", "fan_in = shape[1]", "standard deviation should be"),  # forgets the window
    ("he_init", "fan_in = math.prod(shape[1:])", "fan_in = shape[0] * math.prod(shape[2:])", "fan_in"),  # fan_out
    ("he_init", ".astype(np.float32)\n    #: end\n\n\ndef initialise", "\n    #: end\n\n\ndef initialise", "float32"),
    ("he_init", "for module in net.modules():\n", "for module in net.children():\n", "1.1.0"),  # not what is deep inside
    ("he_init", "module.bias.data = np.zeros(module.bias.shape, np.float32)", "pass", "the bias of layer"),
    ("he_init", "module.weight.data = he_weights(module.weight.shape, rng)",
     "module.weight = nn.Parameter(he_weights(module.weight.shape, rng))", "another Parameter"),
    ("he_init", "if isinstance(module, (nn.Conv2d, nn.Linear)):", "if isinstance(module, nn.Conv2d):", "layer 3"),
    # vgg
    ("vgg", "            in_channels = channels\n", "", "channels"),
    ("vgg", "padding=kernel // 2))", "padding=1))", "vgg_features("),  # right for 3x3 only
    ("vgg", "if batch_norm:\n                layers.append(nn.BatchNorm2d(channels))\n            layers.append(nn.ReLU())\n",
     "layers.append(nn.ReLU())\n            if batch_norm:\n                layers.append(nn.BatchNorm2d(channels))\n",
     "must hold Conv2d, BatchNorm2d"),
    ("vgg", "in_channels = channels\n        layers.append(nn.MaxPool2d(2, 2))",
     "in_channels = channels\n            layers.append(nn.MaxPool2d(2, 2))",
     "must hold"),  # a pool after every convolution
    ("vgg", "layers.append(nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2))",
     "layers.append(nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=not batch_norm))", "batch_norm=True"),
    ("vgg", "size = stages[-1][-1][1] * (H // side) * (W // side)", "size = stages[-1][-1][1] * (H // side) ** 2", "linear"),
    ("vgg", "size = stages[-1][-1][1] * (H // side) * (W // side)", "size = stages[-1][-1][1] * H * W // side**2", "linear"),
    ("vgg", "return nn.Sequential(*layers, nn.Linear(size, num_classes))",
     "return nn.Sequential(*layers, nn.Linear(size, num_classes), nn.ReLU())", "must hold"),  # a ReLU on the scores
    # inception
    ("inception", "nn.Conv2d(five[0], five[1], 5, padding=2)", "nn.Conv2d(five[0], five[1], 5)", "concat"),  # shrinks
    ("inception", "nn.Conv2d(five[0], five[1], 5, padding=2)", "nn.Conv2d(five[0], five[1], 3, padding=1)",
     "the kernel of five"),  # torchvision's old mistake
    ("inception", "ops.relu(self.three(ops.relu(self.three_reduce(x)))),\n", "ops.relu(self.three(self.three_reduce(x))),\n",
     "the 3x3 branch"),
    ("inception", "ops.relu(self.one(x)),\n", "self.one(x),\n", "the 1x1 branch"),
    ("inception", "ops.relu(self.pool(ops.max_pool2d(x, 3, 1, 1))),", "ops.relu(self.pool(x)),", "the pool branch"),
    ("inception", "ops.max_pool2d(x, 3, 1, 1))),", "ops.avg_pool2d(x, 3, 1, 1))),", "the pool branch"),
    ("inception", "ops.max_pool2d(x, 3, 1, 1))),", "ops.max_pool2d(minidl.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), 3, 1))),",
     "the pool branch"),  # zeros at the edge win over negative numbers
    ("inception", "self.three = nn.Conv2d(three[0], three[1]", "self.three = nn.Conv2d(in_channels, three[1]",
     "parameters of Inception"),
    ("inception", "        ], axis=1)", "        ], axis=2)", "concat"),
    ("inception", "ops.relu(self.one(x)),\n", "ops.relu(self.one(x).detach()),\n", "gradcheck"),
    # residual
    ("residual", "((0, 0), (0, channels - C), (0, 0), (0, 0))", "((0, 0), (channels - C, 0), (0, 0), (0, 0))", "shortcut_a"),
    ("residual", "pad(x[:, :, ::stride, ::stride]", "pad(x[:, :, ::stride]", "shortcut_a"),
    ("residual", "pad(x[:, :, ::stride, ::stride]", "pad(ops.avg_pool2d(x, stride, stride)", "shortcut_a"),
    ("residual", "return minidl.pad(x[", "return minidl.pad(x.detach()[", "gradcheck"),
    ("residual", "return ops.relu(y + shortcut)", "return ops.relu(y) + shortcut", "ReLU follows the sum"),
    ("residual", "return ops.relu(y + shortcut)", "return y + shortcut", "ReLU follows the sum"),
    ("residual", "return ops.relu(y + shortcut)", "return ops.relu(y)", "whose norm2 gives 0"),  # a plain block
    ("residual", "y = ops.relu(self.norm1(self.conv1(x)))", "y = self.norm1(self.conv1(x))", "in training mode"),
    ("residual", "shortcut = self.projection_norm(self.projection(x))",
     "shortcut = ops.relu(self.projection_norm(self.projection(x)))", "in training mode"),
    ("residual", "shortcut = self.projection_norm(self.projection(x))", "shortcut = self.projection(x)", "in training mode"),
    ("residual", "self.keeps_shape = in_channels == channels and stride == 1", "self.keeps_shape = in_channels == channels",
     "must have a projection"),
    ("residual", 'if option == "B" and not self.keeps_shape:', 'if option == "B":', "must have no projection"),  # option C
    ("residual", "self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)",
     "self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)", "parameters of ResidualBlock"),
    ("residual", "3, stride=stride, padding=1, bias=False)", "3, padding=1, bias=False)",
     "the stride of conv1"),
    ("residual", "y = self.norm2(self.conv2(y))", "y = self.norm1(self.conv2(y))", "in training mode"),
    ("residual", "        if option not in (\"A\", \"B\"):\n"
     "            raise ValueError(f\"ResidualBlock: option must be 'A' or 'B', got {option!r}\")\n", "", "must be refused"),
    # net_from_table
    ("net_from_table", "C = one + three[1] + five[1] + pool", "C = one + three[0] + five[0] + pool", "channels"),
    ("net_from_table", "C = stage[-1][1]", "C = stage[0][1]", "channels"),
    ("net_from_table", "nn.Sequential(nn.Conv2d(C, F, 3, padding=1, bias=False)", "nn.Sequential(nn.Conv2d(C, F, 3, padding=1)",
     "ResNet-20"),
    ("net_from_table", "nn.BatchNorm2d(F), nn.ReLU()))", "nn.BatchNorm2d(F)))", "net_from_table("),
    ("net_from_table", "modules.append(ResidualBlock(C, F, S, option))", "modules.append(ResidualBlock(C, F, S))", "option A"),
    ("net_from_table", "modules.append(ResidualBlock(C, F, S, option))", "modules.append(ResidualBlock(C, F, 1, option))",
     "the shape behind the row"),
    ("net_from_table", "nn.AdaptiveAvgPool2d(1), nn.Flatten(), ", "nn.Flatten(), ", "modules"),
    ("net_from_table", "nn.Linear(C, num_classes))", "nn.Linear(C, num_classes), nn.Softmax())", "modules"),
    ("net_from_table", 'raise ValueError(f"net_from_table: a row is stem, vgg, inception or residual, got {kind!r}")', "pass",
     "must be refused"),
]
