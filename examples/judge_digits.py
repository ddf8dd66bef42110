"""Judge whether generated images are handwritten digits.

A classifier is trained on the real digits that scikit-learn ships, plus a "not a digit" class made of
noise, shuffled digits and averages of two digits. The extra class is what keeps the judge honest: an
ordinary ten-class classifier has to answer with some digit, and is often sure of it even on noise.

    python examples/judge_digits.py IMAGES.npy

IMAGES.npy holds uint8 images of shape (N, H, W, 3), H and W multiples of 8, white strokes on black.
"""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import zoom
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

SIDE = 8
LEVELS = 16.0
NOT_A_DIGIT = 10
CONFIDENT = 0.8
SEED = 0


@dataclass(frozen=True)
class Judge:
    """A fitted classifier and what it was measured to do on data it was not fitted on."""

    classifier: CalibratedClassifierCV
    held_out_accuracy: float
    confident_on_real: float
    confident_on_noise: float


def upsample(digits: np.ndarray, factor: int = 4) -> np.ndarray:
    """Turn digits (N, 8, 8) in 0..16 into smooth uint8 images (N, 8 * factor, 8 * factor, 3)."""
    # One axis at a time, by a matrix of the cubic spline: far cheaper than zooming the whole stack.
    spline = zoom(np.eye(SIDE), (factor, 1), order=3, mode="nearest", grid_mode=True)
    smooth = spline @ digits.astype(np.float64) @ spline.T
    grey = np.rint(np.clip(smooth / LEVELS, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def to_digits(images: np.ndarray) -> np.ndarray:
    """Undo `upsample` by averaging over areas: uint8 (N, H, W, 3) becomes (N, 8, 8) in 0..16."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"expected uint8 images of shape (N, H, W, 3), got {images.dtype} {images.shape}")
    count, height, width, _ = images.shape
    if height % SIDE or width % SIDE:
        raise ValueError(f"image sides must be multiples of {SIDE}, got {height}x{width}")
    cells = images.reshape(count, SIDE, height // SIDE, SIDE, width // SIDE, 3)
    return cells.mean(axis=(2, 4, 5)) / 255.0 * LEVELS


def _features(digits: np.ndarray) -> np.ndarray:
    return digits.reshape(len(digits), -1) / LEVELS


def _blends(digits: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Average each digit with one of another class."""
    partner = rng.permutation(len(digits))
    different = labels != labels[partner]
    return (digits[different] + digits[partner[different]]) / 2.0


def _shuffled(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each digit's pixels new places, so that only the brightness statistics remain."""
    flat = rng.permuted(digits.reshape(len(digits), -1), axis=1)
    return flat.reshape(digits.shape)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Pixel noise, each image somewhere between plain grey and pure black and white."""
    spread = np.exp(rng.uniform(np.log(0.05), np.log(5.0), (shape[0], 1, 1)))
    return rng.beta(spread, spread, shape) * LEVELS


def _non_digits(digits: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Images a classifier should not be sure about, by kind."""
    return {
        "noise": _noise(digits.shape, rng),
        "shuffled": _shuffled(digits, rng),
        "blends": _blends(digits, labels, rng),
    }


def _confident(classifier: CalibratedClassifierCV, digits: np.ndarray) -> np.ndarray:
    """The predicted digit of each image, or -1 where no digit has more than CONFIDENT probability."""
    chances = classifier.predict_proba(_features(digits))[:, :NOT_A_DIGIT]
    return np.where(chances.max(axis=1) > CONFIDENT, chances.argmax(axis=1), -1)


def _checks(digits: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Non-digits for measuring the judge; half the kinds are ones that it was not fitted on."""
    checks = _non_digits(digits, labels, rng)
    checks["normal"] = np.clip(rng.normal(LEVELS / 2, LEVELS / 4, digits.shape), 0.0, LEVELS)
    checks["binary"] = rng.integers(0, 2, digits.shape) * LEVELS
    checks["uniform"] = rng.uniform(0.0, LEVELS, digits.shape)
    checks["class means"] = np.stack([digits[rng.choice(len(digits), 20)].mean(axis=0) for _ in digits])
    return checks


@functools.lru_cache(maxsize=1)
def fitted_judge() -> Judge:
    """Fit the classifier on four fifths of the real digits and measure it on the rest."""
    rng = np.random.default_rng(SEED)
    source = load_digits()
    # The judge sees real digits the way it will see generated ones: after up- and downsampling.
    digits = to_digits(upsample(source.images))
    train, test, train_labels, test_labels = train_test_split(
        digits, source.target, test_size=0.2, random_state=SEED, stratify=source.target
    )
    # Half as many of each kind as there are digits: with more, the judge turns down real digits too.
    negatives = np.concatenate(list(_non_digits(train[::2], train_labels[::2], rng).values()))
    x = _features(np.concatenate([train, negatives]))
    y = np.concatenate([train_labels, np.full(len(negatives), NOT_A_DIGIT)])
    classifier = CalibratedClassifierCV(SVC(C=10.0, gamma=0.1), cv=5, ensemble=False).fit(x, y)
    noise = np.concatenate(list(_checks(test, test_labels, rng).values()))
    return Judge(
        classifier=classifier,
        held_out_accuracy=float(np.mean(classifier.predict(_features(test)) == test_labels)),
        confident_on_real=float(np.mean(_confident(classifier, test) >= 0)),
        confident_on_noise=float(np.mean(_confident(classifier, noise) >= 0)),
    )


def judge(images: np.ndarray) -> dict[str, Any]:
    """Say how many of the uint8 (N, H, W, 3) images are confidently digits, and which."""
    fitted = fitted_judge()
    predicted = _confident(fitted.classifier, to_digits(images))
    counts = np.bincount(predicted[predicted >= 0], minlength=NOT_A_DIGIT)
    return {
        "samples": len(images),
        "confident": float(np.mean(predicted >= 0)),
        "classes": int(np.count_nonzero(counts)),
        "counts": counts.tolist(),
        "held_out_accuracy": fitted.held_out_accuracy,
        "confident_on_real": fitted.confident_on_real,
        "confident_on_noise": fitted.confident_on_noise,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge whether generated images are handwritten digits.")
    parser.add_argument("images", help="a .npy file of uint8 images, shape (N, H, W, 3)")
    print(json.dumps(judge(np.load(parser.parse_args().images)), indent=2))


if __name__ == "__main__":
    main()
