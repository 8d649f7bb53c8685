"""Samples as one picture: images side by side, recorded cell by cell for a heat map."""

from __future__ import annotations

from torch import Tensor

from neurarium.lab import Run


def record_grid(run: Run, rows: list[Tensor], *, value: str = "ink", gap: int = 1) -> None:
    """Record rows of images, the first on top, as cells (column, row, value); of the first seed alone.

    A heat map is the mean over seeds, and the mean of different samples would show none of them.

    Args:
        run: of the trial.
        rows: images [number, height, width] for each row of the picture.
        value: the recorded column that holds the brightness.
        gap: empty cells between images.
    """
    if run.seed != 0:
        return
    height = rows[0].shape[1] + gap
    for number, images in enumerate(rows):
        top = (len(rows) - number) * height
        for place, image in enumerate(images.detach().cpu()):
            left = place * (image.shape[1] + gap)
            for y, line in enumerate(image.tolist()):
                for x, cell in enumerate(line):
                    run.record(column=left + x, row=top - y, **{value: round(cell, 2)})
