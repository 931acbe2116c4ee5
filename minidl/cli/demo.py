"""Train a mini VGG, a mini Inception net and a mini ResNet on the bundled Fashion-MNIST.

Shows training as it happens, then a table of what the nets cost and reached, and writes three pictures into the
output folder: learning_curves.png, confusion_matrix.png and predictions.png. Files of these names are replaced,
others are left alone. Needs no network and no display.

A full run (no --quick, no --epochs) is accepted if every net reaches 80 % on the 500 validation images and, when all
three are trained, the best reaches 85 %. Test accuracy is computed once, at the end, and decides nothing.

Exit status: 0; 1 if a full run is not accepted; 2 for wrong usage or an output folder that cannot be written;
130 after Ctrl-C.
"""
import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from minidl.cli.arguments import add_device, at_least, between, place
from minidl.cli.files import remove_if_empty, writable_file, writable_folder, write_atomically, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from minidl.data import Dataset
    from minidl.nn import Module
    from minidl.show import Result
    from minidl.train import Epoch
    from minidl.train.fashion import Recipe

Trained: TypeAlias = "tuple[Module, list[Epoch], float]"
"""The net, its history, and the seconds that training took."""

HELP = "train three small nets on Fashion-MNIST, in under three minutes"
NETS = ("vgg", "inception", "resnet")
PICTURES = ("learning_curves.png", "confusion_matrix.png", "predictions.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `minidl demo`."""
    parser.add_argument("--quick", action="store_true", help="a look in under 30 seconds: fewer images, fewer epochs, "
                        "lower accuracies, nothing is judged")
    parser.add_argument("--nets", type=_nets, default=NETS, metavar="A,B,...",
                        help=f"which nets to train (default: {','.join(NETS)})")
    parser.add_argument("--epochs", type=at_least(1), metavar="N", help="passes over the training images "
                        "(default: 6, with --quick 3); with this option nothing is judged")
    parser.add_argument("--images", type=between(100, 3500), metavar="N",
                        help="train on the first N (100 to 3500) of the training images; with this option nothing is judged")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="for first weights, order of the images "
                        "and flips; the same seed and number of threads give the same accuracies on one machine (default: 0)")
    parser.add_argument("--threads", type=between(1, os.cpu_count() or 1), metavar="N",
                        help="threads that the kernels use (default: MINIDL_NUM_THREADS, else all usable cores)")
    add_device(parser)
    parser.add_argument("--out", type=place, default=Path("minidl-demo"), metavar="DIR",
                        help="folder for the pictures, made if missing (default: minidl-demo)")
    parser.add_argument("--json", type=place, metavar="FILE", help="also write all numbers to this file, replacing it")


def run(args: argparse.Namespace) -> int:
    """Looks at the output places, trains, then prints and writes. Returns the exit status."""
    start = time.perf_counter()
    if args.device == "cuda":
        from minidl.backend import working_cupy
        from minidl.cli.networks import user_errors
        with user_errors("--device", RuntimeError):
            working_cupy()
    new = writable_folder(args.out, "--out")
    try:
        for name in PICTURES:
            writable_file(args.out / name, "--out")
        if args.json is not None:
            writable_file(args.json, "--json")
        return _train_and_show(args, start)
    finally:
        if new:
            remove_if_empty(args.out)  # after Ctrl-C or an error before the first picture


def _train_and_show(args: argparse.Namespace, start: float) -> int:
    from rich.console import Console

    from minidl import threads
    from minidl.train import fashion, predict
    console, recipes = Console(highlight=False), _recipes(args)
    data = fashion.load(max(recipe.train_images for recipe in recipes.values()))
    _announce(console, args, recipes, data)
    threads_before = threads.get_num_threads()
    args.threads = args.threads or threads_before
    threads.set_num_threads(args.threads)
    try:
        trained = _train(console, args, recipes, data)
        scores = {name: predict(net, data.test_images) for name, (net, _, _) in trained.items()}
    finally:
        threads.set_num_threads(threads_before)
    results = [_result(name, trained[name], scores[name], data) for name in args.nets]
    best = max(results, key=lambda result: result.validation_accuracy)
    _show(console, results)
    paths = _write_pictures(args.out, results, best, scores[best.name], data)
    console.print(f"Pictures of {best.title}, the best on validation, and of all learning curves:\n"
                  + "\n".join(f"  {path}" for path in paths), soft_wrap=True, markup=False)
    judged = not (args.quick or args.epochs or args.images)
    missed = fashion.shortcomings({r.name: r.validation_accuracy for r in results}) if judged else []
    if args.json is not None:
        record = _record(args, recipes, data, results, best, paths, judged, missed) | {"seconds": time.perf_counter() - start}
        write_json(args.json, record)
        console.print(f"Numbers: {args.json}", soft_wrap=True, markup=False)
    return _conclude(console, judged, missed, results, time.perf_counter() - start)


def _recipes(args: argparse.Namespace) -> "dict[str, Recipe]":
    """The recipe of every net that was asked for, with what the options change in it."""
    from dataclasses import replace

    from minidl.train import fashion
    recipes = {name: (fashion.QUICK if args.quick else fashion.FULL)[name] for name in args.nets}
    changes = {"epochs": args.epochs, "train_images": args.images}
    return {name: replace(recipe, **{key: value for key, value in changes.items() if value})
            for name, recipe in recipes.items()}


def _announce(console: "Console", args: argparse.Namespace, recipes: "dict[str, Recipe]", data: "Dataset") -> None:
    from minidl.train.fashion import TITLES
    if args.quick:
        console.print("Quick look: fewer images and epochs than `minidl demo`, so accuracies are lower.")
    names, epochs = ", ".join(TITLES[name] for name in recipes), max(recipe.epochs for recipe in recipes.values())
    console.print(f"Fashion-MNIST, {len(data.train_images):,} training and {len(data.validation_images):,} validation "
                  f"images, {len(data.class_names)} classes.\n{names}: {epochs} epoch{'s' * (epochs > 1)} each, "
                  f"seed {args.seed}{', on the GPU' * (args.device == 'cuda')}.\n")


def _train(console: "Console", args: argparse.Namespace, recipes: "dict[str, Recipe]", data: "Dataset") -> "dict[str, Trained]":
    """The nets by name, trained one after the other. Every net starts from the seed, whatever came before."""
    from minidl.randomness import manual_seed
    from minidl.show import reporter
    from minidl.train import fashion
    trained = {}
    with reporter(console) as report:
        for name, recipe in recipes.items():
            manual_seed(args.seed)
            net = fashion.make_net(name, data).to(args.device)
            report.begin(fashion.TITLES[name], recipe.epochs, fashion.batches_per_epoch(data, recipe))
            start = time.perf_counter()
            history = fashion.train(net, data, recipe, args.seed, on_batch=report.on_batch, on_epoch=report.on_epoch)
            trained[name] = net, history, time.perf_counter() - start
    return trained


def _result(name: str, trained: "Trained", test_scores: Any, data: "Dataset") -> "Result":
    from minidl.show import Result, count_multiply_adds, count_parameters
    from minidl.train import accuracy
    from minidl.train.fashion import TITLES
    net, history, seconds = trained
    last = history[-1]
    return Result(name, TITLES[name], count_parameters(net), count_multiply_adds(net, data.train_images.shape[1:]), seconds,
                  last.train_accuracy, cast(float, last.validation_accuracy), accuracy(test_scores, data.test_labels), history)


def _show(console: "Console", results: "list[Result]") -> None:
    from minidl.show import results_table
    console.print(results_table(results))


def _write_pictures(folder: Path, results: "list[Result]", best: "Result", scores: Any, data: "Dataset") -> list[Path]:
    """Three PNG files; `scores` are those of the best net for the test images."""
    from minidl.show import confusion_picture, learning_curves, predictions_page
    from minidl.train import confusion_matrix
    matrix = confusion_matrix(scores.argmax(axis=1), data.test_labels, len(data.class_names))
    on_test = f"{best.title} on {len(data.test_images):,} test images"
    figures = {
        "learning_curves.png": learning_curves({r.title: r.history for r in results}),
        "confusion_matrix.png": confusion_picture(matrix, data.class_names, on_test),
        "predictions.png": predictions_page(data.test_images, data.test_labels, scores, data.class_names,
                                            f"{best.title}: the first test images"),
    }
    for name, figure in figures.items():
        write_atomically(folder / name, partial(figure.savefig, format="png"))
    return [folder / name for name in figures]


def _record(args: argparse.Namespace, recipes: "dict[str, Recipe]", data: "Dataset", results: "list[Result]", best: "Result",
            paths: list[Path], judged: bool, missed: list[str]) -> dict[str, Any]:
    """What --json writes."""
    from dataclasses import asdict

    from minidl import __version__
    from minidl.train.fashion import BEST, EACH
    return {
        "minidl": __version__, "seed": args.seed, "quick": args.quick, "threads": args.threads, "device": args.device,
        "recipes": {name: asdict(recipe) for name, recipe in recipes.items()},
        "images": {"train": len(data.train_images), "validation": len(data.validation_images),
                   "test": len(data.test_images)},
        "nets": [result.as_json() for result in results], "best": best.name,
        "acceptance": {"judged": judged, "accepted": judged and not missed, "each": EACH, "best": BEST, "missed": missed},
        "pictures": [str(path) for path in paths],
    }


def _conclude(console: "Console", judged: bool, missed: list[str], results: "list[Result]", seconds: float) -> int:
    """The last line, and the exit status."""
    if not judged:
        console.print(f"Done in {seconds:.0f} s. Nothing was judged; `minidl demo` alone is the full run.")
        return 0
    if missed:
        console.print(f"[bold red]Not accepted[/] after {seconds:.0f} s: " + "; ".join(missed) + ".", soft_wrap=True)
        return 1
    console.print(f"[bold green]Accepted[/] in {seconds:.0f} s: at least 80 % on the validation images for every net"
                  + (", at least 85 % for the best." if len(results) == len(NETS) else "."), soft_wrap=True)
    return 0


# --- an option's type ------------------------------------------------------------------------------------------------


def _nets(text: str) -> tuple[str, ...]:
    """ "vgg,resnet" -> ("vgg", "resnet")"""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [name for name in names if name not in NETS]
    if wrong or not names or len(set(names)) != len(names):
        problem = f"{wrong[0]!r} is not one of them" if wrong else "each once, at least one"
        raise argparse.ArgumentTypeError(f"needs names from {','.join(NETS)}, separated by commas; got {text!r}: {problem}")
    return names
