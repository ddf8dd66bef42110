"""PNG files and grids."""

import os

import numpy as np
import pytest

from ldmc.runtime import BundleProblem, InputProblem
from ldmc.runtime.png import encode_png, grid, write_png

PIL_Image = pytest.importorskip("PIL.Image")


def _picture(height=5, width=7, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def test_a_written_picture_reads_back(tmp_path):
    write_png(tmp_path / "a.png", _picture())
    with PIL_Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), _picture())
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_view_is_written_as_it_looks(tmp_path):
    view = _picture()[::-1, ::2]
    write_png(tmp_path / "a.png", view)
    with PIL_Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), view)


@pytest.mark.parametrize("image, words", [
    (np.zeros((2, 2, 3), np.float32), r"float32\[2, 2, 3\], expected uint8\[H, W, 3\]"),
    (np.zeros((2, 2), np.uint8), r"uint8\[2, 2\]"),
    (np.zeros((0, 2, 3), np.uint8), r"uint8\[0, 2, 3\]"),
])
def test_what_is_no_picture_is_refused(image, words):
    with pytest.raises(InputProblem, match=words):
        encode_png(image)


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(BundleProblem, match="cannot write the picture .*gone/a.png: No such file"):
        write_png(tmp_path / "gone" / "a.png", _picture())
    (tmp_path / "a.png").mkdir()
    with pytest.raises(BundleProblem, match="cannot write the picture"):
        write_png(tmp_path / "a.png", _picture())
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_grid_goes_row_by_row_and_ends_in_black():
    pictures = np.stack([_picture(seed=k) for k in range(5)])
    canvas = grid(pictures, columns=3)
    assert canvas.shape == (10, 21, 3)
    np.testing.assert_array_equal(canvas[:5, 7:14], pictures[1])
    np.testing.assert_array_equal(canvas[5:, :7], pictures[3])
    assert not canvas[5:, 14:].any()


@pytest.mark.parametrize("count, shape", [(1, (5, 7, 3)), (2, (5, 14, 3)), (4, (10, 14, 3)), (16, (20, 28, 3))])
def test_a_grid_is_square_where_nothing_is_said(count, shape):
    assert grid(np.zeros((count, 5, 7, 3), np.uint8)).shape == shape


@pytest.mark.parametrize("shape, columns", [((5, 7, 3), 1), ((0, 5, 7, 3), 1), ((1, 5, 7, 3), 0)])
def test_a_grid_that_cannot_be_drawn(shape, columns):
    with pytest.raises(InputProblem):
        grid(np.zeros(shape, np.uint8), columns)
