"""Learning curves, confusion matrices and pages of predictions as matplotlib Figures.

Every function returns a Figure that belongs to no window: save it with `figure.savefig("name.png")`. pyplot is never
used, so this works without a display.
"""
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.train.loop import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by everybody
RIGHT, WRONG = "#222222", "#c1121f"


def new_figure(width: float, height: float) -> "Figure":
    """An empty Figure of that size in inches, drawn by Agg; its layout keeps labels from overlapping."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def learning_curves(histories: Mapping[str, Sequence[Epoch]]) -> "Figure":
    """Loss and accuracy over the epochs, one colour per net: validation solid, training dashed.

    histories: for each net's name, what `fit` returned.
    """
    if not histories or not all(histories.values()):
        raise ValueError("learning_curves: needs at least one net with at least one epoch, as fit returns them: "
                         f"got {{{', '.join(f'{name!r}: {len(h)} epochs' for name, h in histories.items())}}}")
    figure = new_figure(10, 4.2)
    losses, accuracies = figure.subplots(1, 2)
    for i, (name, history) in enumerate(histories.items()):
        color, x = COLORS[i % len(COLORS)], [record.epoch for record in history]
        losses.plot(x, [record.train_loss for record in history], "o-", color=color, label=name, markersize=4)
        accuracies.plot(x, [100 * record.train_accuracy for record in history], "--", color=color, linewidth=1, alpha=0.8)
        seen = [(record.epoch, 100 * record.validation_accuracy) for record in history
                if record.validation_accuracy is not None]
        if seen:
            accuracies.plot(*zip(*seen), "o-", color=color, label=name, markersize=4)
    _axis(losses, "training loss", max(len(h) for h in histories.values()))
    _axis(accuracies, "accuracy in %", max(len(h) for h in histories.values()))
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)
    accuracies.plot([], [], "o-", color="gray", label="validation", markersize=4)
    accuracies.plot([], [], "--", color="gray", label="training", linewidth=1)
    accuracies.legend(handles=accuracies.get_lines()[-2:], frameon=False, loc="lower right")
    return figure


def _axis(axes: "Axes", title: str, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.7, epochs + 0.3)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def confusion_picture(matrix: np.ndarray, class_names: Sequence[str], title: str = "") -> "Figure":
    """The counts of `confusion_matrix`: rows are what the images show, columns what the net took them for.

    matrix (C, C) of counts, class_names C words. Colours are fractions of a row, so that small classes count as much.
    """
    if matrix.ndim != 2 or matrix.shape != (len(class_names),) * 2:
        raise ValueError(f"confusion_picture: matrix must be (C, C) for C = {len(class_names)} class names, "
                         f"got {matrix.shape}")
    C = len(class_names)
    fraction = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = new_figure(2.6 + 0.58 * C, 2.2 + 0.5 * C)
    axes = figure.subplots()
    image = axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(C), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(C), class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    for i, j in np.ndindex(C, C):
        if matrix[i, j]:
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=9,
                      color="white" if fraction[i, j] > 0.5 else "black")
    figure.colorbar(image, ax=axes, label="fraction of the row", shrink=0.8)
    return figure


def predictions_page(images: np.ndarray, labels: np.ndarray, scores: np.ndarray, class_names: Sequence[str],
                     title: str = "", first: int = 24, mistakes: int = 8) -> "Figure":
    """The first images with what the net takes them for, then the mistakes that it was surest of.

    images (N, 1, H, W) or (N, 3, H, W), labels (N,), scores (N, C) logits. Above each image the prediction and its
    probability; where it is wrong, in red, with the true class below.
    """
    if not len(images) == len(labels) == len(scores) or not len(images):
        raise ValueError(f"predictions_page: needs equally many images, labels and rows of scores, at least one, got "
                         f"{len(images)}, {len(labels)} and {len(scores)}")
    probability = _probabilities(scores)
    predicted, sure = probability.argmax(axis=1), probability.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-sure[wrong], kind="stable")][:mistakes]
    columns = 8
    groups = [(title or "the first images", list(range(min(first, len(images)))))]
    if len(surest):
        groups.append(("the mistakes that the net was surest of", surest.tolist()))
    rows = [-(-len(chosen) // columns) for _, chosen in groups]
    figure = new_figure(1.3 * columns, 1.72 * sum(rows) + 0.35 * len(groups))
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=[r + 0.2 for r in rows])
    for part, (heading, chosen), count in zip(parts[:, 0], groups, rows):
        part.suptitle(heading, fontsize=12, x=0.01, ha="left", weight="bold")
        grid = part.subplots(count, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, i in zip(grid, chosen):
            _show_image(axes, images[i])
            _label_image(axes, class_names, int(predicted[i]), int(labels[i]), float(sure[i]))
    return figure


def _show_image(axes: "Axes", image: np.ndarray) -> None:
    """Draws one image (C, H, W), stretched to its own range: normalised images show as they were."""
    low, high = float(image.min()), float(image.max())
    picture = (image - low) / max(high - low, 1e-6)
    options: dict[str, Any] = dict(cmap="gray_r", vmin=0, vmax=1) if len(image) == 1 else {}
    axes.imshow(picture[0] if len(image) == 1 else picture.transpose(1, 2, 0), interpolation="nearest", **options)


def _label_image(axes: "Axes", class_names: Sequence[str], predicted: int, label: int, sure: float) -> None:
    right = predicted == label
    axes.set_title(f"{class_names[predicted]}\n{100 * sure:.0f} %", fontsize=8, color=RIGHT if right else WRONG, pad=2)
    if not right:  # in words, not in colour alone
        axes.text(0.5, -0.03, f"is {class_names[label]}", transform=axes.transAxes, ha="center", va="top", fontsize=8)


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """softmax of each row: (N, C)"""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
