"""`lt-rebalance data`: what it shows of a set, and every bad input in one line with exit code 2."""

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

from lt_rebalance.cli.main import main
from lt_rebalance.ground import memory
from lt_rebalance.images import pictures
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from tests.commands.test_option_contract import Answer, Call, call
from tests.own_images import CLASSES, SIDE, draw_images, to_arrays, write_folder, write_npz

__all__ = ["call"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a folder of 16 x 16 colour pictures: 6 cats, 4 dogs, 3 eels, and some to test on."""
    return write_folder(tmp_path / "pets", draw_images())


def assert_refused(answer: Answer, *parts: str) -> None:
    """Check that an answer is one line on standard error, with every part, and exit code 2."""
    assert answer.code == 2, answer
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1, answer.err
    assert answer.err.rstrip("\n").isprintable(), answer.err
    for part in parts:
        assert part in answer.err, answer.err


# Bad folders

Spoil = Callable[[Path], object]
PICTURE = Path("train", "cat", "0.png")
COLOURS = np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 4), np.uint8)


def save(image: Image.Image, name: str = "0.png", **options: Any) -> Spoil:
    return lambda root: image.save(root / "train" / "cat" / name, **options)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def cut(root: Path) -> None:
    content = (root / PICTURE).read_bytes()
    (root / PICTURE).write_bytes(content[: len(content) // 2])


def link_out(root: Path) -> None:
    (root.parent / "secret.png").write_bytes((root / PICTURE).read_bytes())
    (root / PICTURE).unlink()
    (root / PICTURE).symlink_to(root.parent / "secret.png")


def link_folder_out(root: Path) -> None:
    (root / "train" / "cat").rename(root.parent / "cat")
    (root / "train" / "cat").symlink_to(root.parent / "cat")


def remove_class(split: str) -> Spoil:
    return lambda root: (root / split / "cat").rename(root / f"was_{split}")


def empty_class(root: Path) -> None:
    (root / "train" / "fox").mkdir()


def leave_one_class(root: Path) -> None:
    for split in ("train", "test"):
        for name in CLASSES[1:]:
            (root / split / name).rename(root / f".{split}_{name}")


def leak(root: Path) -> None:
    (root / "test" / "cat" / "0.png").write_bytes((root / PICTURE).read_bytes())


def write_deep_png(root: Path) -> None:
    """Write a PNG of 16 bits a channel in RGB, which Pillow reads as one of 8."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + bytes(6 * SIDE) for _ in range(SIDE))
    header = struct.pack(">2I5B", SIDE, SIDE, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (root / PICTURE).write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def darken(root: Path) -> None:
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            pixels = np.array(image)
        Image.fromarray(pixels // 128).save(path)


FRAMES = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
RGB = Image.fromarray(COLOURS[..., :3])
FOLDERS: dict[str, tuple[Spoil, list[str]]] = {
    "mixed sizes": (save(Image.new("RGB", (20, 18))), ["16 x 16", "--image-size", "got train/cat/1.png"]),
    "too small": (
        lambda root: [Image.new("RGB", (8, 8)).save(path) for path in root.rglob("*.png")],
        ["16 to 224 pixels", "8 x 8", "--image-size"],
    ),
    "CMYK": (
        save(Image.new("CMYK", (SIDE, SIDE)), "0.jpg"),
        ["CMYK", "train/cat/0.jpg", "convert it to RGB"],
    ),
    "16 bits": (save(Image.new("I;16", (SIDE, SIDE))), ["8 bits", "train/cat/0.png"]),
    "16 bits of RGB": (write_deep_png, ["8 bits", "train/cat/0.png"]),
    "alpha": (save(Image.fromarray(COLOURS)), ["alpha channel", "train/cat/0.png", "background"]),
    "alpha of grey": (save(Image.fromarray(COLOURS[..., :2], "LA")), ["alpha channel", "train/cat/0.png"]),
    "alpha of a palette": (
        save(Image.new("P", (SIDE, SIDE)), transparency=0),
        ["alpha channel", "train/cat/0.png"],
    ),
    "EXIF rotation": (
        save(RGB, "0.jpg", exif=turned()),
        ["EXIF rotation (6)", "train/cat/0.jpg", "auto-orient"],
    ),
    "animated PNG": (save(FRAMES[0], save_all=True, append_images=FRAMES[1:]), ["2 of them", "0.png"]),
    "animated WebP": (
        save(FRAMES[0], "a.webp", save_all=True, append_images=FRAMES[1:]),
        ["2 of them", "a.webp"],
    ),
    "animated GIF": (
        save(FRAMES[0], "a.gif", save_all=True, append_images=FRAMES[1:]),
        ["a.gif", "png, jpg"],
    ),
    "truncated": (cut, ["readable to its end", "train/cat/0.png", "repair or remove"]),
    "empty file": (lambda root: (root / PICTURE).write_bytes(b""), ["no content", "train/cat/0.png"]),
    "no picture": (
        lambda root: (root / PICTURE).write_bytes(b"hello"),
        ["not PNG, JPEG or WebP", "train/cat/0.png"],
    ),
    "link that leads out": (link_out, ["link must stay in the folder", "train/cat/0.png", "secret.png"]),
    "folder that leads out": (link_folder_out, ["link must stay in the folder", "train/cat"]),
    "link to nowhere": (
        lambda root: (root / "train" / "cat" / "9.png").symlink_to("nothing.png"),
        ["lead to something", "train/cat/9.png"],
    ),
    "name of two lines": (
        lambda root: (root / PICTURE).rename(root / "train" / "cat" / "a\nb.png"),
        ["can be printed", r"a\nb.png", "rename"],
    ),
    "class of two lines": (
        lambda root: (root / "train" / "cat").rename(root / "train" / "c\nat"),
        ["can be printed", r"c\nat"],
    ),
    "name that is not UTF-8": (
        lambda root: os.rename(root / PICTURE, os.fsencode(root / "train" / "cat") + b"/\xff.png"),
        ["can be printed", r"\udcff.png"],
    ),
    "class in test alone": (remove_class("train"), ["every class must be in train", "'cat'"]),
    "class without a test": (remove_class("test"), ["must have test images", "'cat'"]),
    "empty class": (empty_class, ["to learn from", "'fox'"]),
    "one class": (leave_one_class, ["two classes", "'cat'"]),
    "leak": (leak, ["(16.67%)", "test/cat/0.png", "train/cat/0.png", "remove one"]),
    "pixels of 0 and 1": (darken, ["0 to 255", "multiply"]),
    "no test": (lambda root: (root / "test").rename(root.parent / "test"), ["--test-fraction"]),
    "no train": (lambda root: (root / "train").rename(root.parent / "train"), ["no folder train"]),
    "groups and none": (
        lambda root: [
            (root / "train" / "cat" / "group").mkdir(),
            (root / PICTURE).rename(root / "train" / "cat" / "group" / "0.png"),
        ],
        ["got both in train/cat"],
    ),
    "flat test": (
        lambda root: [
            shutil.rmtree(root / "test"),
            (root / "test").mkdir(),
            *((root / "test" / f"{number}.png").write_bytes(b"") for number in range(2)),
        ],
        ["in the folder of its class, got test/0.png", "out of test", "(and 1 more like it)"],
    ),
    "loose in train": (
        lambda root: (root / "train" / "loose.PNG").write_bytes(b""),
        ["in the folder of its class, got train/loose.PNG", "out of train"],
    ),
    "loose of another kind": (
        lambda root: (root / "test" / "loose.bmp").write_bytes(b""),
        ["in the folder of its class, got test/loose.bmp"],
    ),
    "class of another Unicode form": (
        lambda root: [
            (root / "train" / "cat").rename(root / "train" / "caf\u00e9"),
            (root / "test" / "cat").rename(root / "test" / "cafe\u0301"),
        ],
        ["one name in all splits", r"in test ('cafe\u0301')", r"in train ('caf\xe9')", "convmv --nfc"],
    ),
    "deep": (lambda root: (root / "train" / "cat" / "a" / "b").mkdir(parents=True), ["train/cat/a/b"]),
}


@pytest.mark.parametrize(("spoil", "parts"), FOLDERS.values(), ids=FOLDERS)
def test_bad_folder_is_one_line_that_names_the_file_and_the_remedy(
    pets: Path, call: Call, spoil: Spoil, parts: list[str]
) -> None:
    spoil(pets)
    assert_refused(call(main, ["data", str(pets)]), *parts)


def test_faults_of_one_kind_are_counted(pets: Path, call: Call) -> None:
    for number in range(3):
        (pets / "train" / "cat" / f"{number}.png").write_bytes(b"hello")
    answer = call(main, ["data", str(pets)])
    assert_refused(answer, "train/cat/0.png", "(and 2 more like it)")
    assert "cat" in answer.out  # what is known is shown in spite of the errors


def test_every_fault_is_printed_in_one_place(pets: Path, call: Call) -> None:
    (pets / PICTURE).write_bytes(b"hello")
    answer = call(main, ["data", str(pets)])
    assert "error: " not in answer.out and "more, which" not in answer.err
    shutil.rmtree(pets / "test")
    answer = call(main, ["data", str(pets)])
    assert_refused(answer, "readable to its end", "(and 1 more, which `lt-rebalance data` lists)")
    assert answer.out.count("error: ") == 1 and "error: a set needs test images" in answer.out


def test_picture_of_too_many_pixels_is_not_decoded(
    pets: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", SIDE * SIDE - 1)
    assert_refused(call(main, ["data", str(pets), "--image-size", "16"]), "255 pixels", "train/cat/0.png")


# Bad files


def with_images(change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {
        name: change(array) if name.endswith("_images") else array for name, array in arrays.items()
    }


def with_labels(change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {
        name: change(array) if name.endswith("_labels") else array for name, array in arrays.items()
    }


def put(**arrays: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda before: {name: array for name, array in {**before, **arrays}.items() if array is not None}


ARCHIVES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], list[str]]] = {
    "float images": (
        with_images(lambda each: (each / 255).astype("f4")),
        ["must be uint8", "float32", "255 *"],
    ),
    "16-bit images": (with_images(lambda each: each.astype("u2")), ["must be uint8", "uint16"]),
    "images of 0 and 1": (with_images(lambda each: each // 128), ["0 to 255", "multiply"]),
    "images with alpha": (
        with_images(lambda each: np.pad(each, [(0, 0)] * 3 + [(0, 1)])),
        ["alpha", "16, 16, 4"],
    ),
    "channels first": (with_images(lambda each: np.moveaxis(each, 3, 1)), ["channels last", "3, 16, 16"]),
    "pickle": (put(train_labels=np.array([0, "a"] + [None] * 11, object)), ["pickle", "train_labels"]),
    "pickled names": (put(class_names=np.array(["a", 1, 2], object)), ["pickle", "class_names"]),
    "labels from 1": (with_labels(lambda each: each + 1), ["start at 0, got 1", "--relabel"]),
    "labels below 0": (with_labels(lambda each: each - 1), ["start at 0, got -1", "--relabel"]),
    "labels with holes": (with_labels(lambda each: 2 * each), ["none of class 1", "--relabel"]),
    "labels of fractions": (with_labels(lambda each: each.astype("f8")), ["whole numbers, got float64"]),
    "labels of text": (
        with_labels(lambda each: np.array(CLASSES)[each]),
        ["whole numbers, got texts (<U3)", "class_names, train_labels = np.unique(train_labels, ret"],
    ),
    "labels of bytes": (with_labels(lambda each: np.array(CLASSES, "S")[each]), ["got texts (|S3)"]),
    "several labels": (
        with_labels(lambda each: np.eye(3, dtype=int)[each]),
        ["one class, got 3 columns; save labels.argmax(axis=1)"],
    ),
    "too few labels": (with_labels(lambda each: each[1:]), ["one label per image", "12"]),
    "class in test alone": (put(test_labels=np.array([0, 0, 1, 1, 1, 3])), ["label 3 in test alone"]),
    "class without a test": (put(test_labels=np.array([0, 0, 1, 1, 1, 1])), ["test images", "'eel'"]),
    "one class": (with_labels(lambda each: 0 * each), ["class_names", "got 3 for 1 classes"]),
    "one class without names": (
        lambda arrays: put(class_names=None)(with_labels(lambda each: 0 * each)(arrays)),
        ["two classes"],
    ),
    "names alike": (put(class_names=np.array(["a", "b", "a"])), ["must differ", "'a'"]),
    "names of two lines": (put(class_names=np.array(["a", "b", "c\nd"])), ["printed", r"'c\nd'"]),
    "no labels": (put(train_labels=None), ["add train_labels"]),
    "nothing known": (lambda arrays: {"x": np.zeros(3)}, ["add train_images and train_labels"]),
    "no test": (put(test_images=None, test_labels=None), ["--test-fraction"]),
    "too few groups": (put(train_groups=np.arange(12)), ["train_groups", "12 for 13"]),
    "splits of other sizes": (
        put(test_images=np.zeros((6, 20, 20, 3), np.uint8)),
        ["one shape", "--image-size"],
    ),
    "no images": (put(test_images=np.zeros((0, 16, 16, 3), np.uint8)), ["none empty"]),
}


@pytest.mark.parametrize(("change", "parts"), ARCHIVES.values(), ids=ARCHIVES)
def test_bad_npz_is_one_line_that_says_the_remedy(
    tmp_path: Path, call: Call, change: Callable[[dict[str, Any]], dict[str, Any]], parts: list[str]
) -> None:
    path = write_npz(tmp_path / "pets.npz", change(to_arrays(draw_images())))
    assert_refused(call(main, ["data", str(path)]), *parts)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_remedy_for_labels_of_text_gives_a_set_that_loads(tmp_path: Path, call: Call, kind: str) -> None:
    arrays = to_arrays(draw_images(counts={"train": (6, 4, 3), "val": (1, 0, 2), "test": (2, 3, 1)}))
    names = {split: np.array(CLASSES, kind)[arrays[f"{split}_labels"]] for split in ("train", "val", "test")}
    class_names, train_labels = np.unique(names["train"], return_inverse=True)
    others = {f"{split}_labels": np.searchsorted(class_names, names[split]) for split in ("val", "test")}
    mended = {**arrays, "class_names": class_names, "train_labels": train_labels, **others}
    answer = call(main, ["data", str(write_npz(tmp_path / "pets.npz", mended)), "--json"])
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["class_names"] == list(CLASSES)
    assert found["counts"] == {"train": [6, 4, 3], "validation": [1, 0, 2], "test": [2, 3, 1]}


def write_bomb(path: Path, shape: tuple[int, ...], length: int) -> None:
    """Write an npz file whose header states a shape of the images; the images are `length` zero bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("train_images.npy", "w") as member:
            member.write(header.getvalue() + bytes(length))
        labels = io.BytesIO()
        np.save(labels, np.zeros(3, int))
        file.writestr("train_labels.npy", labels.getvalue())


def test_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**6)
    write_bomb(tmp_path / "bomb.npz", (10_000, 32, 32), 10_240_000)
    assert_refused(
        call(main, ["data", str(tmp_path / "bomb.npz")]), "fit into memory", "20 MB", "save them smaller"
    )
    write_bomb(tmp_path / "liar.npz", (3, 16, 16), 10_240_000)
    assert_refused(call(main, ["data", str(tmp_path / "liar.npz")]), "as long as its header says")


def test_more_pictures_than_memory_are_refused_before_they_are_decoded(
    pets: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000)
    assert_refused(call(main, ["data", str(pets)]), "fit into memory", "--image-size", "--grey")


def test_damaged_npz_is_named(tmp_path: Path, call: Call) -> None:
    path = write_npz(tmp_path / "pets.npz", to_arrays(draw_images()))
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    assert_refused(call(main, ["data", str(path)]), "pets.npz must be a whole npz")


def draw_flat(folder: Path) -> Path:
    """Return a folder of pictures without folders of classes."""
    folder.mkdir()
    for number in range(3):
        RGB.save(folder / f"{number}.png")
    return folder


PLACES = {
    "nothing": (lambda root: root / "nowhere", ["nothing at"]),
    "empty folder": (lambda root: (root / "empty").mkdir() or root / "empty", ["no class folders with"]),
    "flat folder": (lambda root: draw_flat(root / "flat"), ["no class folders with pictures", "CLASS/*.png"]),
    "folder of folders": (
        lambda root: (root / "e" / "train" / "cat").mkdir(parents=True) or root / "e",
        ["no class folders with pictures"],
    ),
    "text": (lambda root: Path(__file__), ["something else at"]),
    "pipe": (lambda root: os.mkfifo(root / "pipe") or root / "pipe", ["something else at"]),
    "npy": (lambda root: np.save(root / "a.npy", np.zeros(3)) or root / "a.npy", ["something else at"]),
    "endless": (lambda root: Path("/dev/zero"), ["something else at"]),
}


@pytest.mark.parametrize(("make", "parts"), PLACES.values(), ids=PLACES)
def test_path_that_is_neither_is_one_line(
    tmp_path: Path, call: Call, make: Callable[[Path], Path], parts: list[str]
) -> None:
    assert_refused(call(main, ["data", str(make(tmp_path))]), *parts)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--image-size", "15"], "16 to 224"),
        (["--image-size", "225"], "16 to 224"),
        (["--test-fraction", "0"], "between 0 and 1"),
        (["--test-fraction", "1"], "between 0 and 1"),
        (["--test-fraction", "0.2"], "that has one"),
        (["--relabel"], "whose classes"),
        (["--data-dir", "x"], "of the catalogue"),
        (["--samples", "x.jpg"], "ends in .png"),
        (["--samples", "nowhere/x.png"], "no such directory"),
    ],
)
def test_options_that_do_not_go_with_a_folder_are_one_line(
    pets: Path, call: Call, options: list[str], part: str
) -> None:
    assert_refused(call(main, ["data", str(pets), *options]), part)


def test_name_of_nothing_is_answered_with_the_known_names(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = call(main, ["data", "fashion_mnits", "--grey"])
    assert_refused(
        answer, "unknown data set 'fashion_mnits', and nothing is at that path; known: fashion_mni"
    )


def test_files_that_are_missing_are_fetched_by_a_sweep(call: Call, tmp_path: Path) -> None:
    answer = call(main, ["data", "mnist", "--data-dir", str(tmp_path)])
    assert_refused(answer, "train-images-idx3-ubyte", "or give a sweep --download")


def test_options_for_own_images_do_not_go_with_the_catalogue(call: Call) -> None:
    assert_refused(call(main, ["data", "fashion_mnist_mini", "--grey"]), "./fashion_mnist_mini")


# What is shown


def test_set_is_shown_within_80_columns(pets: Path, call: Call) -> None:
    answer = call(main, ["data", str(pets)])
    assert answer.code == 0 and answer.err == ""
    assert max(map(len, answer.out.splitlines()[1:13])) <= 80
    rows = [line.split() for line in answer.out.splitlines()]
    assert [[row[0], row[1], row[-1]] for row in rows if row and row[0] in CLASSES] == [
        ["cat", "6", "2"],
        ["dog", "4", "3"],
        ["eel", "3", "1"],
    ]
    for part in (
        "3 classes",
        "13 train, 6 test",
        "16 x 16 (19)",
        "ratio:  2",
        "head    1 class with 46.2%",
    ):
        assert part in answer.out
    assert "warning: fewer than 10 train images of 'cat', 'dog', 'eel'" in answer.out


def test_of_many_classes_both_ends_are_shown(tmp_path: Path, call: Call) -> None:
    num_classes = 43
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), np.arange(num_classes, 0, -1))
    arrays = {
        "train_images": rng.integers(0, 256, (len(labels), SIDE, SIDE), np.uint8),
        "train_labels": labels,
        "test_images": rng.integers(0, 256, (num_classes, SIDE, SIDE), np.uint8),
        "test_labels": np.arange(num_classes),
        "class_names": np.array([f"sign {'長' * 30}{label}" for label in range(num_classes)]),
    }
    answer = call(main, ["data", str(write_npz(tmp_path / "signs.npz", arrays))])
    shown = [line for line in answer.out.splitlines() if line.startswith("sign 長")]
    assert len(shown) == 20 and max(map(cell_len, shown)) <= 80
    assert "... 23 classes between, of 33 to 11 images ..." in answer.out


def test_labels_are_renumbered_when_asked(tmp_path: Path, call: Call) -> None:
    arrays = with_labels(lambda each: 10 * each + 5)(to_arrays(draw_images()))
    first = json.loads(
        call(main, ["data", str(write_npz(tmp_path / "a.npz", to_arrays(draw_images()))), "--json"]).out
    )
    path = str(write_npz(tmp_path / "b.npz", arrays))
    found = json.loads(call(main, ["data", path, "--relabel", "--json"]).out)
    assert found["identity"] == first["identity"] and found["class_names"] == list(CLASSES)
    assert found["counts"] == {"train": [6, 4, 3], "test": [2, 3, 1]} and found["imbalance_ratio"] == 2


def test_names_come_from_the_catalogue_where_the_file_is_called_after_a_set(
    tmp_path: Path, call: Call
) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{part}": rng.integers(0, 256, (20, 28, 28), np.uint8)
        if part == "images"
        else np.arange(20) % 10
        for split in ("train", "test")
        for part in ("images", "labels")
    }
    found = {}
    for stem in ("fashion_mnist-lt", "fashion_mnists"):
        path = write_npz(tmp_path / f"{stem}.npz", arrays)
        found[stem] = json.loads(call(main, ["data", str(path), "--json"]).out)
    assert found["fashion_mnist-lt"]["class_names"][1] == "Trouser"
    assert "fashion_mnist, after which the file is named" in found["fashion_mnist-lt"]["warnings"][0]
    assert found["fashion_mnists"]["class_names"][1] == "1"
    assert found["fashion_mnist-lt"]["identity"] == found["fashion_mnists"]["identity"]


def test_names_that_are_numbers_are_kept_where_somebody_gives_them(tmp_path: Path, call: Call) -> None:
    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 256, (20, SIDE, SIDE), np.uint8) for split in ("train", "test")}
    arrays = {f"{split}_images": each for split, each in images.items()}
    arrays |= {f"{split}_labels": np.arange(20) % 10 for split in images}
    path = write_npz(tmp_path / "cifar10.npz", arrays | {"class_names": np.array([*"0123456789"])})
    for split, each in images.items():
        for place, image in enumerate(each):
            folder = tmp_path / "cifar10" / split / str(place % 10)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{place}.png")
    for given in (path, path, tmp_path / "cifar10"):  # decoded, from the cache, and a folder
        found = json.loads(call(main, ["data", str(given), "--json"]).out)
        assert found["class_names"] == [*"0123456789"]
        assert not any("the names of the classes" in each for each in found["warnings"])


@pytest.mark.parametrize(
    ("arrays", "warning"),
    [
        ({"ids": np.arange(13)}, "left out of pets.npz: ids"),
        (
            {"train_groups": np.arange(13), "test_groups": np.arange(12, 18)},
            "train and test have 1 group in common, such as ",
        ),
    ],
)
def test_what_does_no_harm_is_a_warning(
    tmp_path: Path, call: Call, arrays: dict[str, Any], warning: str
) -> None:
    path = write_npz(tmp_path / "pets.npz", {**to_arrays(draw_images()), **arrays})
    for _ in range(2):  # decoded, and from the cache
        answer = call(main, ["data", str(path)])
        assert answer.code == 0 and f"warning: {warning}" in answer.out


@pytest.mark.parametrize("split", ["train", "test"])
def test_equal_images_in_a_split_are_a_warning(split: str, pets: Path, call: Call) -> None:
    content = (pets / split / "cat" / "0.png").read_bytes()
    (pets / split / "cat" / "1.png").write_bytes(content)
    (pets / split / "dog" / "0.png").write_bytes(content)
    answer = call(main, ["data", str(pets)])
    assert answer.code == 0 and f"among the {split} images: 2 copies of others" in answer.out
    assert f"several labels for 1 {split} image, such as {split}/cat/" in answer.out


def test_few_leaked_images_of_many_are_a_warning(tmp_path: Path, call: Call) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1040, SIDE, SIDE), np.uint8)
    images[1039] = images[0]
    arrays = {
        "train_images": images[:40],
        "train_labels": np.arange(40) % 2,
        "test_images": images[40:],
        "test_labels": np.arange(1000) % 2,
    }
    answer = call(main, ["data", str(write_npz(tmp_path / "a.npz", arrays))])
    assert answer.code == 0 and "1 of 1,000 test images (0.10%)" in answer.out
    assert "test_images[999], which equals train_images[0]" in answer.out


def test_other_files_are_left_out_and_those_of_desktops_passed_over(pets: Path, call: Call) -> None:
    (pets / "train" / "cat" / "notes.txt").write_text("hello")
    (pets / "train" / "cat" / ".DS_Store").write_text("")
    (pets / "train" / "cat" / "Thumbs.db").write_text("")
    answer = call(main, ["data", str(pets)])
    assert answer.code == 0 and "1 file left out, not png, jpg or webp: 'train/cat/notes.txt'" in answer.out


def test_picture_beside_the_folders_is_left_out_by_its_name(pets: Path, call: Call) -> None:
    for name in ("preview.png", "preview.bmp", "notes.txt"):
        (pets / name).write_bytes(b"")
    answer = call(main, ["data", str(pets)])
    assert answer.code == 0 and "1 file left out, not png, jpg or webp: 'notes.txt'" in answer.out
    assert "2 pictures left out, outside a class folder: 'preview.bmp', 'preview.png'" in answer.out


def test_grey_pictures_among_colour_ones_are_taken_and_told(pets: Path, call: Call) -> None:
    Image.fromarray(COLOURS[..., 0]).save(pets / PICTURE)
    answer = call(main, ["data", str(pets), "--json"])
    found = json.loads(answer.out)
    assert found["image_shape"] == [3, SIDE, SIDE] and "1 grey picture taken" in found["warnings"][0]
    grey = json.loads(call(main, ["data", str(pets), "--json", "--grey"]).out)
    assert grey["image_shape"] == [1, SIDE, SIDE] and "grey pictures" not in str(grey["warnings"])


def test_set_of_the_catalogue_is_shown_as_well(call: Call) -> None:
    answer = call(main, ["data", "fashion_mnist_mini"])
    assert answer.code == 0 and "6,000 train, 2,000 test" in answer.out and "Trouser" in answer.out


# Samples


def test_samples_are_drawn_and_overwrite_only_what_this_has_made(
    pets: Path, call: Call, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    for _ in range(2):
        answer = call(main, ["data", str(pets), "--samples", str(sheet)])
        assert answer.code == 0 and f"samples: {sheet}" in answer.out
    with Image.open(sheet) as image:
        assert image.mode == "RGB" and image.height == 3 * 50
    for path in (pets / PICTURE, tmp_path / "text.png", tmp_path / "link.png"):
        if path.name == "text.png":
            path.write_text("mine")
        elif path.name == "link.png":
            path.symlink_to(tmp_path / "elsewhere.png")
        before = path.lstat()
        assert_refused(
            call(main, ["data", str(pets), "--samples", str(path)]), "was not made by this command"
        )
        after = path.lstat()  # reading it may change the time of the last access
        assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
            before.st_ino,
            before.st_size,
            before.st_mtime_ns,
        )


def test_samples_follow_no_link_under_a_guessed_name(pets: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".writing-{os.getpid()}-sheet.png").symlink_to("mine")
    assert call(main, ["data", str(pets), "--samples", str(tmp_path / "sheet.png")]).code == 0
    assert (tmp_path / "mine").read_text() == "mine"


def test_samples_are_not_drawn_into_a_store_or_a_published_study(
    pets: Path, call: Call, tmp_path: Path
) -> None:
    for folder, names in (("store", ["store.json"]), ("published", ["store.zip", "SHA256SUMS"])):
        (tmp_path / folder / "report").mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).touch()
        for path in (tmp_path / folder / "x.png", tmp_path / folder / "report" / "x.png"):
            answer = call(main, ["data", str(pets), "--samples", str(path)])
            assert_refused(answer, f"--samples {path} is in {tmp_path / folder}, a store or")
            assert answer.out == "" and not path.exists()
