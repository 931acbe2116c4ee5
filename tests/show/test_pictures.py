"""Pictures: every label is there, images are upright, nothing needs a display."""
import io
import subprocess
import sys

import numpy as np
import pytest

from minidl.show import confusion_picture, learning_curves, predictions_page
from minidl.train import Epoch

NAMES = ("T-shirt/top", "Trouser", "Ankle boot")
HISTORY = [Epoch(i, 1 / i, 0.5 + i / 10, 0.5 + i / 20, 0.1, 1.0) for i in (1, 2, 3)]


def texts(figure):
    import matplotlib.text
    return {text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()}


def page(n=5, channels=1, **options):
    rng = np.random.default_rng(0)
    scores = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4], [0, 4, 0], [2, 0, 0]])[:n]
    return predictions_page(rng.standard_normal((n, channels, 6, 8)).astype(np.float32), np.array([0, 1, 2, 2, 1])[:n],
                            scores, NAMES, **options)


def png(figure):
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


@pytest.mark.parametrize("figure", [
    lambda: learning_curves({"vgg": HISTORY, "resnet": HISTORY[:1]}),
    lambda: confusion_picture(np.arange(9).reshape(3, 3), NAMES, "title"),
    lambda: confusion_picture(np.zeros((3, 3), int), NAMES),
    lambda: page(title="title"),
    lambda: page(3),
    lambda: page(1, channels=3),
])
def test_every_picture_saves_as_png_without_a_warning(figure):
    assert png(figure()).startswith(b"\x89PNG")


def test_learning_curves_show_loss_and_both_accuracies_of_every_net():
    figure = learning_curves({"vgg": HISTORY, "resnet": HISTORY[:2]})
    losses, accuracies = figure.axes
    assert [line.get_label() for line in losses.get_lines()] == ["vgg", "resnet"]
    np.testing.assert_allclose(losses.get_lines()[0].get_ydata(), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(accuracies.get_lines()[0].get_ydata(), [60, 70, 80])
    np.testing.assert_allclose(accuracies.get_lines()[1].get_ydata(), [55, 60, 65])
    assert {"epoch", "training loss", "accuracy in %", "validation", "training"} <= texts(figure)


def test_learning_curves_can_do_without_validation():
    figure = learning_curves({"vgg": [Epoch(1, 1.0, 0.5, None, 0.1, 1.0)]})
    assert figure.axes[1].get_lines()[0].get_ydata()[0] == 50


def test_the_confusion_matrix_names_its_classes_and_counts():
    matrix = np.array([[50, 3, 0], [0, 41, 7], [2, 0, 9]])
    figure = confusion_picture(matrix, NAMES, "the title")
    assert {*NAMES, "50", "3", "41", "7", "2", "9", "true", "predicted", "the title"} <= texts(figure)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NAMES)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array()[0], [50 / 53, 3 / 53, 0])


def test_the_page_labels_right_and_wrong_answers():
    figure = page(title="first")
    found = texts(figure)
    assert {"first", "the mistakes that the net was surest of", "is Ankle boot", "is Trouser"} <= found
    assert "Trouser\n96 %" in found
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["T-shirt/top\n96 %", "Trouser\n96 %", "Ankle boot\n96 %", "Trouser\n96 %", "T-shirt/top\n79 %",
                      "Trouser\n96 %", "T-shirt/top\n79 %"]  # the surest mistake first


def test_images_stand_upright():
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 0] = 1  # a bright first row: the top
    axes = predictions_page(image, np.array([0]), np.array([[1.0, 0]]), ("a", "b")).axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > top  # row 0 is drawn at the top
    assert axes.images[0].get_array()[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("draw", "words"), [
    (lambda: learning_curves({}), "at least one net"),
    (lambda: learning_curves({"vgg": []}), "'vgg': 0 epochs"),
    (lambda: confusion_picture(np.zeros((2, 3)), NAMES), "C = 3 class names"),
    (lambda: predictions_page(np.zeros((2, 1, 4, 4)), np.zeros(3, int), np.zeros((2, 3)), NAMES), "equally many"),
])
def test_what_cannot_be_drawn_is_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


def test_drawing_never_loads_pyplot():
    script = ("import sys; from minidl.show import learning_curves; from minidl.train import Epoch; "
              "learning_curves({'a': [Epoch(1, 1.0, 0.5, 0.5, 0.1, 1.0)]}); print('matplotlib.pyplot' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
