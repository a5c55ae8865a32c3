from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_ood.errors import OodError
from napari_ood.training import check_trainable, read_dataset, split_dataset
from napari_ood.training.compare_data import split_three_ways
from napari_ood.training.cutting import Change, resize_whole
from napari_ood.training.split import random_split

RNG = np.random.default_rng(0)


def write(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "tiles.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_class_folders_hold_images_at_any_depth_and_nothing_else_counts(tmp_path: Path) -> None:
    for name in ("Übergang/a.png", "Übergang/deep/er/b.JPG", "bone/c.tif", "bone/d.bmp"):
        write(tmp_path / name)
    for name in (".DS_Store", "bone/Thumbs.db", "bone/._c.tif", "bone/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "__MACOSX" / "bone" / "c.png")
    (tmp_path / "bone" / "loop").symlink_to(tmp_path / "bone", target_is_directory=True)
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("bone", "Übergang")
    assert [p.name for p in dataset.paths] == ["c.tif", "d.bmp", "a.png", "b.JPG"]
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert set(dataset.splits.tolist()) == set(dataset.groups.tolist()) == {""}
    other_order = read_dataset(tmp_path, classes=("Übergang", "skin"))
    assert other_order.labels.tolist() == [-1, -1, 0, 0]


def test_folders_called_train_and_val_are_splits_only_together(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png"):
        write(tmp_path / "split" / name)
    dataset = read_dataset(tmp_path / "split")
    assert dataset.splits.tolist() == ["train", "train", "valid", "valid"]
    assert dataset.classes == ("a", "b")
    assert dataset.split("validation").labels.tolist() == [0, 1]
    train, held = split_dataset(dataset)
    assert (train.tolist(), held.tolist()) == ([0, 1], [2, 3])
    for name in ("train/1.png", "bus/2.png"):
        write(tmp_path / "classes" / name)
    assert read_dataset(tmp_path / "classes").classes == ("bus", "train")


def test_a_folder_may_hold_only_the_splits_to_test_with(tmp_path: Path) -> None:
    for name in ("valid/a/1.png", "valid/b/2.png", "test/a/3.png", "test/b/4.png"):
        write(tmp_path / "held" / name)
    dataset = read_dataset(tmp_path / "held")
    assert dataset.classes == ("a", "b")
    assert dataset.splits.tolist() == ["test", "test", "valid", "valid"]
    write(tmp_path / "one" / "Test" / "a" / "1.png")
    assert read_dataset(tmp_path / "one").split("test").classes == ("a",)
    # Images right inside: the folders are classes, as different as "test" and "valid" may be.
    write(tmp_path / "held" / "valid" / "5.png")
    assert read_dataset(tmp_path / "held").classes == ("test", "valid")


def test_rows_without_a_split_beside_others_do_not_vanish(tmp_path: Path) -> None:
    for i in range(6):
        write(tmp_path / f"{i}.png")
    splits = ("train", "train", "valid", "valid", "", "")
    rows = "".join(f"{i}.png,{'ab'[i % 2]},{split}\n" for i, split in enumerate(splits))
    dataset = read_dataset(table(tmp_path, "path,label,split\n" + rows))
    for split in (split_dataset, split_three_ways):
        with pytest.raises(OodError, match="2 of 6 rows have no split"):
            split(dataset)
    train, held = split_dataset(dataset.subset([0, 1, 2, 3]))
    assert (train.tolist(), held.tolist()) == ([0, 1], [2, 3])


def test_a_folder_of_images_is_unlabelled(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write(tmp_path / "2.png")
    dataset = read_dataset(tmp_path, classes=("a", "b"))
    assert dataset.classes == ()
    assert dataset.labels.tolist() == [-1, -1]
    with pytest.raises(OodError, match="one folder per class"):
        check_trainable(dataset)


def test_a_csv_from_excel_on_windows(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / "tiles" / f"{i}.png")
    text = (
        "path;Label;split;group;organ\r\n"
        "tiles\\0.png;b;Train;s1;skin\r\n"
        'tiles\\1.png;"a";Validation;s2;lung\r\n'
        ";;;;\r\n"
        "tiles\\2.png;b;test;s3;lung\r\n"
        "tiles/3.png;odd;;;lung\r\n"
    )
    path = table(tmp_path, "\ufeff" + text)
    dataset = read_dataset(path, classes=("b", "a"))
    assert dataset.labels.tolist() == [0, 1, 0, -1]
    assert dataset.splits.tolist() == ["train", "valid", "test", ""]
    assert dataset.groups.tolist() == ["s1", "s2", "s3", ""]
    assert dataset.column("Organ").tolist() == ["skin", "lung", "lung", "lung"]
    assert read_dataset(path, group="organ").groups.tolist() == dataset.column("organ").tolist()
    part = dataset.subset(dataset.labels == 0)
    assert [p.name for p in part.paths] == ["0.png", "2.png"]
    assert part.column("organ").tolist() == ["skin", "lung"]
    with pytest.raises(OodError, match=r"no column 'patient'.*organ"):
        read_dataset(path, group="patient")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n0.png,a\n", "first line that names its columns"),
        ("", "first line"),
        ("path,label\n", "no rows"),
        ("path,label\n0.png,a\ngone.png,a\nlost.png,b\n", r"line 3: gone\.png and 1 more"),
        ("path,label\n,a\n", "line 2 has no path"),
        ("path,label\n0.png,a,b\n", "line 2 has 3 cells, not 2"),
        ("path,label,split\n0.png,a,train\n./0.png,a,valid\n", "twice, in the splits train and"),
        ("path,label,label\n0.png,a,a\n", "each once"),
        ("path,label\n0.png,\xe4\n", "UTF-8"),
    ],
)
def test_a_csv_that_contradicts_itself_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "0.png")
    with pytest.raises(OodError, match=message):
        read_dataset(table(tmp_path, text, "latin-1"))


def test_folders_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OodError, match="does not exist"):
        read_dataset(tmp_path / "gone")
    with pytest.raises(OodError, match="holds no images"):
        read_dataset(tmp_path)
    write(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(OodError, match="b holds no images"):
        read_dataset(tmp_path)
    write(tmp_path / "b" / "1.png")
    with pytest.raises(OodError, match=r"class 'a' has 1 image\(s\)"):
        check_trainable(read_dataset(tmp_path))
    write(tmp_path / "stray.png")
    with pytest.raises(OodError, match=r"beside them.*stray\.png"):
        read_dataset(tmp_path)
    write(tmp_path / "one" / "only" / "1.png")
    with pytest.raises(OodError, match="one class only, 'only'"):
        check_trainable(read_dataset(tmp_path / "one"))


def test_a_group_in_two_splits_is_named(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i}.png")
    rows = "0.png,a,train,case 7\n1.png,b,train,case 8\n2.png,a,valid,case 7\n"
    dataset = read_dataset(table(tmp_path, "path,label,split,group\n" + rows))
    with pytest.raises(OodError, match="'case 7' is in the splits 'train' and 'valid'"):
        split_dataset(dataset)


def test_tiles_of_the_right_size_are_untouched_others_are_resized_whole(tmp_path: Path) -> None:
    exact = write(tmp_path / "exact.jpg", quality=75)
    wide = write(tmp_path / "wide.png", (128, 64))
    read = read_dataset(tmp_path).read_tiles(32)
    assert read.changes.tolist() == [Change.NONE, Change.RESIZED]
    assert read.summary().startswith("1 of 2 images resized as a whole")
    np.testing.assert_array_equal(read.tiles[0], np.asarray(Image.open(exact)))
    # The area filter at whole factors is the mean; out of a PNG nothing is compressed.
    blocks = np.asarray(Image.open(wide), float).reshape(32, 2, 32, 4, 3).mean((1, 3))
    np.testing.assert_allclose(read.tiles[1], blocks, atol=1)


def test_a_known_mpp_scales_and_cuts_around_the_centre(tmp_path: Path) -> None:
    source = write(tmp_path / "large.png", (160, 128))
    write(tmp_path / "same.png", (32, 32))
    write(tmp_path / "near.png", (64, 64))
    write(tmp_path / "small.png", (32, 32))
    rows = "large.png,0.5\nsame.png,1.02\nnear.png,1.0\nsmall.png,0.5\n"
    dataset = read_dataset(table(tmp_path, "path,mpp\n" + rows), tile=32, mpp=1.0)
    read = dataset.read_tiles()
    expected = [Change.SCALED, Change.NONE, Change.CUT, Change.SCALED]
    assert read.changes.tolist() == expected
    half = np.asarray(Image.open(source), float).reshape(64, 2, 80, 2, 3).mean((1, 3))
    np.testing.assert_allclose(read.tiles[0], half[16:48, 24:56], atol=1)
    whole = np.asarray(Image.open(tmp_path / "near.png"))
    np.testing.assert_array_equal(read.tiles[2], whole[16:48, 16:48])
    with pytest.raises(OodError, match="'0,5', no positive number"):
        read_dataset(table(tmp_path, 'path,mpp\nlarge.png,"0,5"\n')).read(32, 1.0)


def test_a_share_of_resampled_tiles_can_stay_as_the_engine_makes_them(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.jpg", (96, 64), quality=90) for i in range(8)]
    dataset = read_dataset(tmp_path)
    plain = [resize_whole(Image.open(path), 32) for path in paths]
    untouched = []
    for share in (0.0, 0.5, 1.0):
        tiles = dataset.read_tiles(32, recompress=share).tiles
        untouched.append([np.array_equal(a, b) for a, b in zip(plain, tiles, strict=True)])
    assert [sum(same) for same in untouched] == [8, 4, 0]
    assert untouched[1] == [True, False] * 4, "evenly over the files"


def test_what_is_resampled_from_a_jpeg_is_compressed_again(tmp_path: Path) -> None:
    smooth = np.full((64, 64, 3), 200, np.uint8)
    smooth[:, ::3] = 90
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=100, subsampling="4:4:4")
    Image.fromarray(np.asarray(Image.open(tmp_path / "a.jpg"))).save(tmp_path / "b.png")
    tiles = read_dataset(tmp_path).read(32)
    difference = np.abs(tiles[0].astype(int) - tiles[1]).mean()
    assert 0.5 < difference < 10


@pytest.mark.parametrize(
    ("mode", "suffix", "expected"),
    [("L", "png", "grey"), ("1", "bmp", "grey"), ("P", "png", "colour"), ("RGBA", "png", "colour")],
)
def test_modes_that_are_harmless_become_rgb(
    tmp_path: Path, mode: str, suffix: str, expected: str
) -> None:
    write(tmp_path / f"a.{suffix}", mode=mode)
    tile = read_dataset(tmp_path).read(32)[0]
    assert tile.shape == (32, 32, 3)
    assert (np.ptp(tile, axis=2).max() == 0) == (expected == "grey")


def test_transparent_pixels_become_glass(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tile = read_dataset(tmp_path).read(32)[0]
    assert (tile[:16] == 0).all()
    assert (tile[16:] == 255).all()


def test_files_that_cannot_become_tiles_are_named(tmp_path: Path) -> None:
    def refuse(name: str, message: str) -> None:
        path = tmp_path / name
        with pytest.raises(OodError, match=f"{name} {message}"):
            read_dataset(path.parent).read(32)
        path.unlink()

    (tmp_path / "empty.png").touch()
    refuse("empty.png", "is an empty file")
    (tmp_path / "text.png").write_text("this is no image")
    refuse("text.png", "is no image")
    whole = write(tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    refuse("cut.jpg", "cannot be read as an image, is it damaged")
    write(tmp_path / "print.jpg", mode="CMYK")
    refuse("print.jpg", "has colour mode CMYK")
    deep = RNG.integers(0, 65536, (32, 32), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    refuse("deep.png", "has more than 8 bits")
    frames = [Image.fromarray(np.full((32, 32, 3), i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    refuse("stack.tif", "has several pages")
    import imagecodecs

    colour = RNG.integers(0, 65536, (32, 32, 3), dtype=np.uint16)
    (tmp_path / "deep_rgb.png").write_bytes(imagecodecs.png_encode(colour))
    refuse("deep_rgb.png", "has more than 8 bits")


def test_many_files_are_read_in_order(tmp_path: Path) -> None:
    for i in range(500):
        pixels = np.full((32, 32, 3), (i % 250, i // 250 * 50, 128), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:04}.png")
    tiles = read_dataset(tmp_path).read(32)
    expected = np.array([(i % 250, i // 250 * 50, 128) for i in range(500)])
    np.testing.assert_array_equal(tiles[:, 20, 20], expected)


def test_the_summary_names_the_files_and_not_their_place(tmp_path: Path) -> None:
    sums = set()
    for home in ("here", "there"):
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            write(tmp_path / home / name)
        summary = read_dataset(tmp_path / home).summary()
        assert summary["counts"] == {"all": {"a": 2, "b": 1}}
        sums.add(summary["files_sha256"])
    assert len(sums) == 1
    (tmp_path / "here" / "a" / "2.png").rename(tmp_path / "here" / "b" / "2.png")
    assert read_dataset(tmp_path / "here").summary()["files_sha256"] not in sums


def test_a_random_split_stays_inside_the_split_train(tmp_path: Path) -> None:
    rows = []
    for i in range(40):
        write(tmp_path / f"{i}.png", (8, 8))
        rows.append(f"{i}.png,{'ab'[i % 2]},{'test' if i >= 30 else 'train'}\n")
    dataset = read_dataset(table(tmp_path, "path,label,split\n" + "".join(rows)))
    train, held = split_dataset(dataset, held_out=0.2, seed=3)
    assert sorted([*train, *held]) == list(range(30))
    assert np.bincount(dataset.labels[held]).tolist() == [3, 3]
    again = split_dataset(dataset, held_out=0.2, seed=3)[1]
    other = split_dataset(dataset, held_out=0.2, seed=4)[1]
    assert held.tolist() == again.tolist() != other.tolist()


@st.composite
def grouped_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float, int]:
    n_classes = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(1, 12), min_size=4 * n_classes, max_size=40))
    mixed = draw(st.booleans())
    labels, groups = [], []
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    for g, size in enumerate(sizes):
        own = [g % n_classes] * size
        labels += rng.integers(0, n_classes, size).tolist() if mixed and g >= 2 * n_classes else own
        groups += ["" if g % 5 == 4 else f"g{g}"] * size
    held_out = draw(st.floats(0.05, 0.5))
    return np.array(labels), np.array(groups), held_out, draw(st.integers(0, 9))


@settings(max_examples=150, deadline=None)
@given(grouped_labels())
def test_a_random_split_cuts_no_group_and_is_about_as_large_as_asked(case) -> None:
    labels, groups, held_out, seed = case
    held = random_split(labels, groups, held_out, seed)
    np.testing.assert_array_equal(held, random_split(labels, groups, held_out, seed))
    assert not (set(groups[held]) & set(groups[~held])) - {""}
    n_classes = labels.max() + 1
    largest = max((groups == g).sum() for g in set(groups) - {""})
    for c in range(n_classes):
        of_class = labels == c
        n_held = (held & of_class).sum()
        assert 0 < n_held < of_class.sum()
        assert abs(n_held - held_out * of_class.sum()) <= 2 * largest + 1
    # Classes balance each other's misses: the whole is closer than its parts need to be.
    assert abs(held.sum() - held_out * len(labels)) <= n_classes * (largest + 1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(2, 300), min_size=2, max_size=5),
    st.floats(0.05, 0.9),
    st.integers(0, 9),
)
def test_without_groups_each_class_gives_just_its_share(
    sizes: list[int], held_out: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    held = random_split(labels, np.zeros(len(labels), "<U1"), held_out, seed)
    for c, size in enumerate(sizes):
        n_held = int(held[labels == c].sum())
        assert 1 <= n_held <= size - 1
        assert abs(n_held - held_out * size) <= max(
            0.51, 1 - held_out * size, 1 - (1 - held_out) * size
        )


def test_a_class_of_one_group_cannot_be_split() -> None:
    labels = np.repeat([0, 1], [6, 6])
    groups = np.array(["a"] * 3 + ["b"] * 3 + ["c"] * 6)
    with pytest.raises(OodError, match="class 'odd' has one group"):
        random_split(labels, groups, 0.5, 0, lambda c: ("even", "odd")[c])
    with pytest.raises(OodError, match="between 0 and 1"):
        random_split(labels, groups, 1.0, 0)


def test_real_tables_split_by_group(shared_data: Path) -> None:
    folder = shared_data / "lc25000"
    if not (folder / "labels.csv").is_file():
        pytest.skip("LC25000 is not there")
    dataset = read_dataset(folder / "labels.csv")
    check_trainable(dataset)
    train, held = split_dataset(dataset)
    assert (len(train), len(held)) == (1258, 239)
    only = dataset.split("train")
    train, held = split_dataset(only, 0.15)
    assert not set(only.groups[train]) & set(only.groups[held])
    assert len(held) == pytest.approx(0.15 * len(only), rel=0.1)
    assert dataset.subset(held[:5]).read(96).shape == (5, 96, 96, 3)


@pytest.mark.skipif(os.name == "nt", reason="backslashes separate folders on Windows")
def test_a_file_that_is_really_called_with_a_backslash(tmp_path: Path) -> None:
    write(tmp_path / "a\\b.png")
    assert len(read_dataset(table(tmp_path, "path\na\\b.png\n"))) == 1
